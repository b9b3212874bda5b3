from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing.errors import BillingError, StripeAccessRefused
from billing.models import Meter, Plan
from billing.stripe.catalog import publish_meter, publish_plan
from billing.stripe.webhook_endpoints import ensure_webhook_endpoint


class Command(BaseCommand):
    help = "Make the webhook endpoint, meters, products and prices exist at Stripe. Safe to repeat."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            endpoint, is_new = ensure_webhook_endpoint()
            self.stdout.write(f"Webhook endpoint {endpoint.id}: {'created' if is_new else 'there already'}.")
            for meter in Meter.objects.all():
                self.stdout.write(f"Meter {meter.slug}: {publish_meter(meter)}.")
            for plan in Plan.objects.prefetch_related("prices"):
                created = publish_plan(plan)
                self.stdout.write(
                    f"Plan {plan.slug}: {', '.join(created) if created else 'nothing to create'}."
                )
        except StripeAccessRefused as error:
            raise CommandError("Stripe does not accept STRIPE_SECRET_KEY, or not for this.") from error
        except BillingError as error:
            raise CommandError(f"Stripe set-up stopped: {error} Run it again to go on.") from error
