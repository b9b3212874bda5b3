"""A stateful stand-in for Stripe's HTTP API that runs on this machine only.

Used as a process (`python -m sandbox`) and inside a test process (`sandbox.transport`). It knows
nothing of Tollgate's applications or of Django; see README.md for what it supports and where it
differs from Stripe.
"""

from sandbox.state import Sandbox

__all__ = ["Sandbox"]
