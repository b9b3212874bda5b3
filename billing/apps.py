from django.apps import AppConfig


class BillingConfig(AppConfig):
    name = "billing"
    verbose_name = "Billing"

    def ready(self) -> None:
        from billing import checks, receivers, webhooks  # noqa: F401  (connects the receivers, registers the checks)
        from billing.stripe import client

        client.use_http_client(client.new_http_client())
