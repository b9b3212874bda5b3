from collections.abc import Iterator

from billing.doctor import Finding, Severity, check
from billing.models import PlanPrice
from billing.stripe.listing import list_active_prices


@check("archived-prices", "Prices that are published here and cannot be bought at Stripe.")
def archived_prices() -> Iterator[Finding]:
    published = PlanPrice.objects.filter(stripe_price__isnull=False).select_related("plan")
    products = dict(published.values_list("pk", "stripe_price__product"))
    active: dict[str, set[str]] = {}
    for price in published:
        product = products[price.pk]
        if product not in active:
            active[product] = list_active_prices(product)
        if price.stripe_price_id not in active[product]:
            yield Finding(
                slug="archived-prices",
                severity=Severity.ERROR,
                subject=price.lookup_key,
                sentence=f"{price.plan}'s price {price.lookup_key} ({price.stripe_price_id}) is archived at Stripe: "
                "nobody can buy it, and nobody can change to it.",
                advice="Make it active again at Stripe, or press Publish on the plan, which makes a new one.",
            )
