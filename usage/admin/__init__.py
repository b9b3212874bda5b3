"""Usage, to look at. What was counted is what is billed, so nothing here may be edited.

The ledger's events are missing: Django's admin takes no model with a composite primary key.
"""

from usage.admin import corrections, proofs, reports, rollups  # noqa: F401
