from django.apps import AppConfig


class BillingConfig(AppConfig):
    name = "billing"
    verbose_name = "Billing"

    def ready(self) -> None:
        # Each connects its signal receivers; importing the checks registers them.
        from billing import checks, receivers, trial_receivers, webhooks  # noqa: F401
        from billing.stripe import client, owner, tolerance

        client.use_http_client(client.new_http_client())
        tolerance.take_discounted_customers()
        owner.look_once()
