"""For each type of event that Tollgate depends on: how the sandbox comes to tell it, and what it alone brings."""

from tests.billing.scenes import beside, invoices, subscriptions
from tests.billing.scenes.steps import SCENES

__all__ = ["SCENES", "beside", "invoices", "subscriptions"]
