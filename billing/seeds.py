"""The plans a new installation starts with. Staff edit them in admin; seeding again changes none of them."""

from django.db import transaction

from billing.models import Meter, Plan, PlanPrice, PlanQuota

# slug, name, description, calls a minute, calls a month, US cents a month. None is unlimited; free has no price.
PLANS = [
    ("free", "Free", "For trying things out.", 10, 100, None),
    ("pro", "Pro", "For a product with its first customers.", 100, 10_000, 2_900),
    ("team", "Team", "For growing traffic.", 500, 100_000, 9_900),
    ("enterprise", "Enterprise", "No limits.", None, None, 49_900),
]


@transaction.atomic
def seed_plans() -> list[Plan]:
    """Create the plans and the `requests` meter where there is no plan at all, and return what was created.

    A catalogue that staff have begun is theirs: a plan they deleted must not come back with the next release.
    """
    if Plan.objects.exists():
        return []
    meter, _ = Meter.objects.get_or_create(slug="requests", defaults={"name": "Requests", "unit": "call"})
    created = []
    for order, (slug, name, description, rate, included, cents) in enumerate(PLANS):
        plan = Plan.objects.create(
            slug=slug,
            name=name,
            description=description,
            rate_per_minute=rate,
            order=order,
            is_default=slug == "free",
        )
        PlanQuota.objects.create(plan=plan, meter=meter, included=included)
        if cents is not None:
            PlanPrice.objects.create(plan=plan, unit_amount=cents)
            # Costs nothing: it puts the period's units on the invoice, beside what they were included in.
            PlanPrice.objects.create(plan=plan, meter=meter, unit_amount=0)
        created.append(plan)
    return created
