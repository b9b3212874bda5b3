"""What the doctor looks for in billing. Importing this registers the checks."""

from billing.checks import catalogue, customers, entitlements, subscriptions, webhooks  # noqa: F401
