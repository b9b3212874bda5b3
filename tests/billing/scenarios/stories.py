"""Lives of a year and more, each a function of the world it happens in, and where each ends when all goes well."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

from dateutil.relativedelta import relativedelta

from billing.stripe.client import get_client
from billing.stripe.ending import cancel_at_period_end, resume
from tests.billing.scenarios.world import FAILING, WORKING, World

# Date, status, total and amount paid, in cents.
Bills = list[tuple[str, str, int, int]]


@dataclass(frozen=True)
class Story:
    """`bills` leaves out invoices over nothing, such as those of a month's included usage."""

    tell: Callable[[World], None]
    start: str
    bills: Bills
    ends: dict[str, str | None]
    notices: list[str]
    with_trial: bool = False

    @property
    def name(self) -> str:
        return self.tell.__name__


def monthly(amount: int, first: str, *, months: int) -> Bills:
    """Return a paid invoice a month. A month without the first's day has its last one instead."""
    start = date.fromisoformat(first)
    days = (start + relativedelta(months=month) for month in range(months))
    return [(day.isoformat(), "paid", amount, amount) for day in days]


def on(plan: str) -> dict[str, str | None]:
    return {"plan": plan, "bought": plan, "status": "active", "access": "full"}


def trial_to_paid(world: World) -> None:
    world.subscribe("team")  # Which has a trial of 14 days.
    assert world.call().rate_limit == 500
    world.go(to="2027-01-05")


def card_fails_and_recovers_on_day_three(world: World) -> None:
    world.subscribe("pro")
    world.go(to="2026-05-09")
    world.change_card(FAILING)
    world.go(to="2026-05-13T12:00")
    assert world.call().rate_limit == 100  # Grace: full for seven days.
    world.change_card(WORKING, pay_now=True)
    world.go(to="2027-01-12")


def card_fails_for_good(world: World) -> None:
    world.subscribe("pro")
    world.go(to="2026-05-09")
    world.change_card(FAILING)
    world.go(to="2027-01-12")
    assert world.call().rate_limit == 10


def upgrade_in_mid_period_and_downgrade(world: World) -> None:
    world.subscribe("pro")
    world.go(days=15)
    # Half of the 30 days are left: the rest of Pro back, the rest of Team on top.
    assert world.change("team") == 4950 - 1450
    assert world.call().rate_limit == 500
    world.go(to="2026-07-20")
    assert world.change("pro") == 0
    assert world.call().rate_limit == 500  # Paid for until the period ends.
    world.go(to="2027-04-02")
    assert world.call().rate_limit == 100


def yearly(world: World) -> None:
    world.subscribe("pro", interval="year")
    world.go(to="2027-06-20")
    cancel_at_period_end(world.organization)
    world.go(days=3)
    resume(world.organization)
    world.go(to="2028-06-20")


def annual_renewal_from_29_february(world: World) -> None:
    world.subscribe("pro", interval="year")
    world.go(to="2029-03-05")


def annual_renewals_up_to_the_next_leap_year(world: World) -> None:
    world.subscribe("pro", interval="year")
    world.go(to="2032-03-05")


def monthly_renewals_on_the_31st(world: World) -> None:
    world.subscribe("pro")
    world.go(to="2027-02-05")


def refund_and_credit(world: World) -> None:
    world.subscribe("pro")
    world.go(days=40)
    world.refund(1000)
    world.go(days=5)
    world.credit(3900)  # More than one month costs.
    world.go(to="2027-04-02")


def promotion_code_that_ends(world: World) -> None:
    client = get_client().v1
    coupon = client.coupons.create({"percent_off": 20, "duration": "repeating", "duration_in_months": 3})
    client.promotion_codes.create({"code": "LAUNCH", "promotion": {"type": "coupon", "coupon": coupon.id}})
    world.subscribe("pro", code="LAUNCH")
    world.go(to="2027-04-02")


STORIES = [
    Story(
        trial_to_paid,
        start="2026-01-05T12:00",
        bills=monthly(9900, "2026-01-19", months=12),
        ends=on("team"),
        notices=["plan_changed", "trial_ending"],
        with_trial=True,
    ),
    Story(
        card_fails_and_recovers_on_day_three,
        start="2026-02-10T12:00",
        bills=monthly(2900, "2026-02-10", months=12),
        ends=on("pro"),
        notices=["plan_changed", "payment_failed", "recovered"],
    ),
    Story(
        card_fails_for_good,
        start="2026-02-10T12:00",
        bills=[*monthly(2900, "2026-02-10", months=3), ("2026-05-10", "open", 2900, 0)],
        ends={"plan": "free", "bought": "pro", "status": "canceled", "access": "limited"},
        notices=["plan_changed", "payment_failed", "access_reduced", "cancelled"],
    ),
    Story(
        upgrade_in_mid_period_and_downgrade,
        start="2026-04-01",
        bills=[
            ("2026-04-01", "paid", 2900, 2900),
            ("2026-04-16", "paid", 3500, 3500),
            *monthly(9900, "2026-05-01", months=3),
            *monthly(2900, "2026-08-01", months=9),
        ],
        ends=on("pro"),
        notices=["plan_changed", "plan_changed", "plan_changed"],
    ),
    Story(
        yearly,
        start="2026-06-15T12:00",
        bills=[(day, "paid", 29_000, 29_000) for day in ("2026-06-15", "2027-06-15", "2028-06-15")],
        ends=on("pro"),
        notices=["plan_changed"],
    ),
    Story(
        annual_renewal_from_29_february,
        start="2028-02-29T12:00",
        bills=[(day, "paid", 29_000, 29_000) for day in ("2028-02-29", "2029-02-28")],
        ends=on("pro"),
        notices=["plan_changed"],
    ),
    Story(
        monthly_renewals_on_the_31st,
        start="2026-01-31T12:00",
        bills=monthly(2900, "2026-01-31", months=13),
        ends=on("pro"),
        notices=["plan_changed"],
    ),
    Story(
        refund_and_credit,
        start="2026-04-01",
        bills=[
            *monthly(2900, "2026-04-01", months=2),
            # 39 dollars of credit: all of June, and ten dollars of July.
            ("2026-06-01", "paid", 2900, 0),
            ("2026-07-01", "paid", 2900, 1900),
            *monthly(2900, "2026-08-01", months=9),
        ],
        ends=on("pro"),
        notices=["plan_changed"],
    ),
    Story(
        promotion_code_that_ends,
        start="2026-04-01",
        bills=[*monthly(2320, "2026-04-01", months=3), *monthly(2900, "2026-07-01", months=10)],
        ends=on("pro"),
        notices=["plan_changed"],
    ),
]

# Told in order only: four years of included usage make it long.
LONG_STORIES = [
    Story(
        annual_renewals_up_to_the_next_leap_year,
        start="2028-02-29T12:00",
        bills=[
            (day, "paid", 29_000, 29_000)
            for day in ("2028-02-29", "2029-02-28", "2030-02-28", "2031-02-28", "2032-02-29")
        ],
        ends=on("pro"),
        notices=["plan_changed"],
    ),
]
