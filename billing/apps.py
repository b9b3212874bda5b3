from django.apps import AppConfig


class BillingConfig(AppConfig):
    name = "billing"
    verbose_name = "Billing"

    def ready(self) -> None:
        from billing import receivers, trial_receivers, webhooks  # noqa: F401  (connects the signal receivers)
        from billing.stripe import client

        client.use_http_client(client.new_http_client())
