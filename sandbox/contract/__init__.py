"""Holding the sandbox, and what is sent to it, to Stripe's published OpenAPI document."""
