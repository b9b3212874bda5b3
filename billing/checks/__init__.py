"""What the doctor looks for in billing. Importing this registers the checks."""

from billing.checks import (  # noqa: F401
    catalogue,
    customers,
    entitlements,
    metering,
    subscriptions,
    upkeep,
    webhooks,
)
