"""What is foretold is what happens: each entry is compared with the same failure, played in the sandbox."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.urls import reverse

from apikeys.gate import admit
from apikeys.models import APIKey
from billing.models import Access, BillingSettings, Notice, PlanOverride, StatusPolicy
from billing.stripe.client import get_client
from billing.timeline import Entry, what_if_card_fails
from sandbox.invoices.collecting import set_retry_policy
from tests.billing.stage import BAD_CARD, DAY, HOUR, Stage, open_stage
from tests.billing.test_policy_admin import staff

pytestmark = pytest.mark.django_db
SECOND = timedelta(seconds=1)


@pytest.fixture
def stage(sandbox, webhook_endpoint, plans, owner):
    with open_stage(sandbox, owner) as stage:
        yield stage


@dataclass(frozen=True)
class Seen:
    """One date, as it was foretold or as it was."""

    at: datetime | None
    status: str
    access: str
    limits: tuple[str, int | None, int | None]
    banner: str
    emails: tuple[str, ...]
    is_try: bool


def foretold(entries: Sequence[Entry]) -> list[Seen]:
    return [
        Seen(
            entry.at,
            entry.status,
            entry.access,
            (
                entry.entitlement.plan.slug,
                entry.entitlement.rate_per_minute,
                entry.entitlement.find_quota("requests"),
            ),
            entry.banner,
            tuple(entry.emails),
            any("payment fail" in sentence for sentence in entry.happenings),
        )
        for entry in entries
    ]


class Diary:
    """Writes down, at each step of the clock, what Acme has at the gate, on its pages and in its mailbox."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        _, self.secret = APIKey.objects.issue(organization=stage.organization, name="test")
        self.pages: list[Seen] = []
        self.told = self.tries = 0
        self.before = self.look()
        stage.observers += [stage.beat, self.write]

    def look(self) -> Seen:
        entitlement = self.stage.entitlement
        decision = admit(self.secret)
        assert decision.admitted is (entitlement.access != Access.NONE)
        kinds = tuple(
            Notice.objects.filter(state="sent").order_by("created_at").values_list("kind", flat=True)
        )
        tries = sum(each["type"] == "invoice.payment_failed" for each in self.stage.sandbox.every("event"))
        seen = Seen(
            self.stage.now,
            entitlement.status,
            entitlement.access,
            (entitlement.plan.slug, decision.rate_limit, decision.quota),
            entitlement.banner,
            kinds[self.told :],
            tries > self.tries,
        )
        self.told, self.tries = len(kinds), tries
        return seen

    def write(self) -> None:
        seen = self.look()
        if as_before(seen) != as_before(self.before) or seen.emails or seen.is_try:
            self.pages.append(seen)
        self.before = seen


def as_before(seen: Seen) -> tuple[Any, ...]:
    return seen.status, seen.access, seen.limits, seen.banner


def rule(status: str, day: int, access: str, banner: str = "", *, email: bool = False) -> None:
    StatusPolicy.objects.create(status=status, from_day=day, access=access, banner=banner, sends_email=email)


def standard(stage: Stage) -> None:
    """As seeded."""


def strict(stage: Stage) -> None:
    rule("past_due", 2, "full", "Five days are left for {plan}.", email=True)
    rule("past_due", 12, "none", "Calls are refused until you pay.", email=True)
    rule("canceled", 30, "none", "It is a month since {plan} ended.", email=True)
    rule("unpaid", 40, "none", email=True)


def silent(stage: Stage) -> None:
    StatusPolicy.objects.update(sends_email=False)


def favoured(stage: Stage) -> None:
    """Special limits that begin and end while it goes on."""
    failed = stage.entitlement.period_end + HOUR
    PlanOverride.objects.create(
        organization=stage.organization,
        reason="a favour",
        changes_rate=True,
        rate_per_minute=55,
        starts_at=failed + 4 * DAY,
        ends_at=failed + 9 * DAY,
    )


def leaving(stage: Stage) -> None:
    """It has been agreed that the subscription ends in the middle of it."""
    ends_at = int((stage.entitlement.period_end + 10 * DAY).timestamp())
    get_client().v1.subscriptions.update(stage.subscription["id"], {"cancel_at": ends_at})
    stage.hear()


@pytest.mark.long
@pytest.mark.parametrize(
    ("set_up", "retries", "then"),
    [
        (standard, [3, 5, 7], "cancel"),
        (standard, [3, 5, 7], "unpaid"),
        (standard, [3, 5, 7], "past_due"),
        (strict, [3, 5, 7], "cancel"),
        (strict, [3, 5, 7], "unpaid"),
        (strict, [1], "cancel"),
        (silent, [3], "unpaid"),
        (favoured, [3, 5, 7], "cancel"),
        (leaving, [3, 5, 7], "cancel"),
    ],
)
def test_what_was_foretold_is_what_happens_entry_by_entry(stage, plans, set_up, retries, then):
    failed, diary = ready_to_fail(stage, plans, set_up, retries=retries, then=then)
    prediction = foretold(what_if_card_fails(stage.organization, now=failed))

    stage.go(failed)
    at_once = foretold(what_if_card_fails(stage.organization, now=stage.now))
    stage.go(failed + DAY / 2)
    later = what_if_card_fails(stage.organization, now=stage.now)
    # Left past due, it is renewed after a month, which may fail as well.
    stage.go(failed + (28 if then == "past_due" else 60) * DAY)

    assert len(prediction) >= 2
    assert diary.pages == prediction
    # Neither does it change once it has begun: what has been is told beside what will be.
    assert at_once == prediction
    assert foretold(later) == prediction
    assert [entry.is_past for entry in later] == [seen.at < failed + DAY / 2 for seen in prediction]


def ready_to_fail(
    stage: Stage, plans: Any, set_up: Any = standard, *, retries: list[int], then: str
) -> tuple[datetime, Diary]:
    """Bring Acme to the second before its renewal fails. Returns when it will, and a diary kept from now on."""
    set_retry_policy(stage.sandbox, retry_days=retries, then=then)
    # Stripe counts each try from the one before, staff enter days after the first failure.
    days = [sum(retries[: count + 1]) for count in range(len(retries))]
    outcome = "canceled" if then == "cancel" else then
    BillingSettings.objects.create(retry_days=days, after_retries=outcome)
    stage.subscribe(plans.pro)
    stage.post()
    set_up(stage)
    stage.use_card(BAD_CARD)
    failed = stage.entitlement.period_end + HOUR
    stage.go(failed - SECOND)
    return failed, Diary(stage)


def test_with_smart_retries_the_end_has_no_date_and_comes_as_told(stage, plans):
    strict(stage)
    failed, diary = ready_to_fail(stage, plans, retries=[3, 5, 7], then="cancel")
    BillingSettings.objects.update(retry_days=[])
    prediction = foretold(what_if_card_fails(stage.organization, now=failed))
    stage.go(failed + 60 * DAY)

    dated = [seen for seen in prediction if seen.at]
    assert [seen.at for seen in dated] == [failed, *(failed + day * DAY for day in (2, 7, 12))]
    happened = [(*as_before(seen), seen.emails) for seen in diary.pages if not is_mere_try(seen, diary)]
    assert happened == [(*as_before(seen), seen.emails) for seen in prediction]


def is_mere_try(seen: Seen, diary: Diary) -> bool:
    place = diary.pages.index(seen)
    return place > 0 and as_before(diary.pages[place - 1]) == as_before(seen) and not seen.emails


def test_stripe_s_own_date_of_the_next_try_goes_before_the_days_that_were_entered(stage, plans):
    failed, _ = ready_to_fail(stage, plans, retries=[3, 5, 7], then="cancel")
    BillingSettings.objects.update(retry_days=[1, 2, 4])
    stage.go(failed + 4 * DAY)

    prediction = foretold(what_if_card_fails(stage.organization, now=stage.now))

    tries = [seen.at for seen in prediction if seen.is_try]
    # Two have failed; the third is Stripe's own; the last follows as far from it as was entered.
    assert tries == [failed, failed + 1 * DAY, failed + 8 * DAY, failed + 10 * DAY]
    assert prediction[-1].status == "canceled"


def test_nothing_is_foretold_where_no_card_is_charged(stage, plans):
    assert what_if_card_fails(stage.organization, now=stage.now) == []

    get_client().v1.subscriptions.cancel(stage.subscribe(plans.pro))
    stage.hear()
    assert what_if_card_fails(stage.organization, now=stage.now) == []


def test_looking_ahead_changes_nothing(stage, plans):
    stage.subscribe(plans.pro)
    before, notices = stage.entitlement.version, Notice.objects.count()
    what_if_card_fails(stage.organization, now=stage.now)

    assert (stage.entitlement.version, Notice.objects.count()) == (before, notices)


def page_of(stage: Stage) -> str:
    return reverse("admin:billing_entitlement_timeline", args=[stage.organization.pk])


def test_staff_read_what_happens_if_a_card_fails_today(admin_client, stage, plans):
    BillingSettings.objects.create(retry_days=[3, 8, 15])
    stage.subscribe(plans.pro)

    page = admin_client.get(page_of(stage)).text

    assert "No payment of Acme is failing." in page
    assert "Its next payment falls due on 10 April 2027, 09:30 UTC" in page
    assert "Stripe tries again 3, 8 and 15 days after the first failure" in page
    for words in ("10 Mar 2027, 09:30", "17 Mar 2027, 09:30", "25 Mar 2027, 09:30"):
        assert words in page
    assert "You keep Pro for seven days" in page
    assert "It was the last try: Stripe cancels the subscription." in page


def test_staff_read_what_is_happening_and_what_the_customer_was_told(admin_client, stage, plans):
    failed, _ = ready_to_fail(stage, plans, retries=[3, 5, 7], then="cancel")
    stage.go(failed + DAY)

    page = admin_client.get(page_of(stage)).text

    assert "has failed" in page
    assert page.count(">past<") == 1
    assert "E-mails so far" in page
    assert "Payment failed</a>: sent, 10 Apr 2027, 10:30" in page


def test_staff_read_that_there_is_nothing_to_fail(admin_client, stage):
    page = admin_client.get(page_of(stage)).text

    assert "Acme has no subscription that a card is charged for" in page
    assert "<table" not in page


def test_the_list_of_entitlements_leads_there(admin_client, stage):
    assert page_of(stage) in admin_client.get(reverse("admin:billing_entitlement_changelist")).text
    assert (
        page_of(stage)
        in admin_client.get(reverse("admin:billing_entitlement_change", args=[stage.organization.pk])).text
    )


def test_who_may_not_see_entitlements_may_not_see_it(stage):
    assert staff("view_plan").get(page_of(stage)).status_code == 403


def test_who_may_see_entitlements_alone_reads_no_e_mails(stage, plans):
    stage.subscribe(plans.pro)
    stage.post()

    page = staff("view_entitlement").get(page_of(stage))

    assert page.status_code == 200
    assert "E-mails so far" not in page.text


def test_an_organization_that_is_not_there_is_not_found(admin_client, plans):
    unknown = reverse("admin:billing_entitlement_timeline", args=["00000000-0000-4000-8000-000000000000"])

    assert admin_client.get(unknown).status_code == 404
