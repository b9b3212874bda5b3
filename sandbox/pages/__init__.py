"""Everything that is not the API: hosted pages for payers, and the control page for developers."""

from sandbox.pages.site import Pages

__all__ = ["Pages"]
