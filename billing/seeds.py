"""The plans a new installation starts with. Staff edit them in admin; seeding again changes none of them."""

from django.db import transaction

from billing.models import Access, Meter, Plan, PlanPrice, PlanQuota, StatusPolicy

# slug, name, description, calls a minute, calls a month, API keys, US cents a month. None is unlimited; free has no
# price.
PLANS = [
    ("free", "Free", "For trying things out.", 10, 100, 5, None),
    ("pro", "Pro", "For a product with its first customers.", 100, 10_000, 20, 2_900),
    ("team", "Team", "For growing traffic.", 500, 100_000, 100, 9_900),
    ("enterprise", "Enterprise", "No limits.", None, None, None, 49_900),
]


# status, from day, access, banner, whether an e-mail says so.
POLICIES = [
    ("trialing", 0, Access.FULL, "", False),
    ("active", 0, Access.FULL, "", False),
    (
        "past_due",
        0,
        Access.FULL,
        "Your last payment did not go through. You keep {plan} for seven days while we try again: "
        "pay the open invoice to be sure.",
        True,
    ),
    (
        "past_due",
        7,
        Access.LIMITED,
        "Your payment is more than a week overdue. You have the limits of {limits} until the open invoice is paid.",
        True,
    ),
    (
        "unpaid",
        0,
        Access.LIMITED,
        "Your subscription is unpaid. You have the limits of {limits} until the open invoice is paid.",
        True,
    ),
    (
        "paused",
        0,
        Access.LIMITED,
        "Your subscription is paused. You have the limits of {limits} until it resumes.",
        True,
    ),
    (
        "canceled",
        0,
        Access.LIMITED,
        "Your {plan} subscription has ended. You have the limits of {limits}.",
        True,
    ),
    (
        "incomplete",
        0,
        Access.UNCHANGED,
        "Your first payment is not complete: {plan} begins as soon as it is.",
        False,
    ),
    (
        "incomplete_expired",
        0,
        Access.LIMITED,
        "Your first payment was not completed in time, so nothing was charged. Choose a plan to try again.",
        False,
    ),
]


@transaction.atomic
def seed_policies() -> int:
    """Create the status policy where there is none at all, and return how many rows that made."""
    if StatusPolicy.objects.exists():
        return 0
    rows = [
        StatusPolicy(status=status, from_day=day, access=access, banner=banner, sends_email=email)
        for status, day, access, banner, email in POLICIES
    ]
    return len(StatusPolicy.objects.bulk_create(rows))


@transaction.atomic
def seed_plans() -> list[Plan]:
    """Create the plans and the `requests` meter where there is no plan at all, and return what was created.

    A catalogue that staff have begun is theirs: a plan they deleted must not come back with the next release.
    """
    if Plan.objects.exists():
        return []
    meter, _ = Meter.objects.get_or_create(slug="requests", defaults={"name": "Requests", "unit": "call"})
    created = []
    for order, (slug, name, description, rate, included, keys, cents) in enumerate(PLANS):
        plan = Plan.objects.create(
            slug=slug,
            name=name,
            description=description,
            rate_per_minute=rate,
            api_key_limit=keys,
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
