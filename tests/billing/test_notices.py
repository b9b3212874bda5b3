"""What customers are told by e-mail: each thing once, and nothing that is not so."""

from typing import Any

import pytest
from django.core import mail
from djstripe import models as djstripe

from billing import delivery
from billing.models import Access, Notice, NoticeKind, NoticeState, StatusPolicy
from billing.notices import note_trial_ending
from billing.stripe.catalog import publish_plan
from billing.stripe.client import get_client
from billing.tasks import note_trials_ending
from tests.billing.stage import BAD_CARD, DAY, GOOD_CARD, HOUR, Stage, lines_of, links_in, open_stage

pytestmark = [pytest.mark.django_db, pytest.mark.long]
ALERT = {
    "meter": "requests",
    "meter_name": "Requests",
    "unit": "call",
    "level": 80,
    "percent": 82,
    "used": 82,
    "limit": 100,
    "is_blocked": False,
    "is_capped": True,
    "amount": 500,
    "currency": "usd",
    "period_end": "2026-05-01T00:00:00+00:00",
    "runs_out_at": "2026-04-20T12:00:00+00:00",
}
BILLING_PAGE = "http://127.0.0.1:8000/dashboard/billing/"


@pytest.fixture
def stage(sandbox, webhook_endpoint, plans, owner):
    with open_stage(sandbox, owner) as stage:
        stage.observers.append(stage.beat)
        yield stage


@pytest.fixture
def subscribed(stage, plans) -> Stage:
    """Acme on Pro, and told of it."""
    stage.subscribe(plans.pro)
    stage.post()
    return stage


def fail(stage: Stage) -> None:
    """Let the next renewal fail."""
    stage.use_card(BAD_CARD)
    stage.go(stage.entitlement.period_end + HOUR)


def states() -> dict[str, str]:
    return dict(Notice.objects.values_list("kind", "state"))


def last() -> Any:
    return mail.outbox[-1]


def test_a_purchase_is_confirmed_with_what_is_included_now(subscribed):
    assert last().subject == "You are on Pro now"
    assert last().to == ["owner@acme.example"]
    assert "Your plan has changed from Free to Pro." in last().body
    assert "- 100 calls a minute\n  - 10,000 calls a month" in last().body


def test_a_failed_payment_is_told_with_the_link_that_pays_it(subscribed):
    fail(subscribed)

    assert last().subject == "Your payment for Pro did not go through"
    assert "over $29 is open" in last().body
    assert "by 17 April 2027 at 10:30 (UTC), your access is reduced" in last().body
    (invoice,) = get_client().v1.invoices.list({"status": "open"}).data
    assert links_in(last().body) == [invoice.hosted_invoice_url]


def test_the_whole_course_of_a_failure_is_told_each_thing_once(subscribed):
    fail(subscribed)
    subscribed.go(20 * DAY)

    assert [message.subject for message in mail.outbox] == [
        "You are on Pro now",
        "Your payment for Pro did not go through",
        "You have the limits of Free now",
        "Your Pro subscription has ended",
    ]
    assert set(states().values()) == {NoticeState.SENT}


def test_a_payment_that_arrives_is_confirmed(subscribed):
    fail(subscribed)
    subscribed.go(8 * DAY)
    subscribed.pay()
    subscribed.beat()

    assert last().subject == "Thank you: your payment has arrived"
    assert "- 10,000 calls a month" in last().body
    assert subscribed.notices().count("recovered") == 1


def test_two_failures_are_told_of_twice(subscribed):
    for _ in range(2):
        fail(subscribed)
        subscribed.go(DAY)
        subscribed.pay()
        subscribed.beat()

    assert subscribed.notices() == ["plan_changed", *["payment_failed", "recovered"] * 2]
    assert set(Notice.objects.values_list("state", flat=True)) == {NoticeState.SENT}


def test_a_cancellation_is_told_when_it_takes_effect(subscribed):
    subscription = subscribed.subscription["id"]
    get_client().v1.subscriptions.update(subscription, {"cancel_at_period_end": True})
    subscribed.hear()
    end = subscribed.entitlement.period_end
    subscribed.go(end - HOUR)
    assert "cancelled" not in subscribed.notices()

    subscribed.go(end)

    assert last().subject == "Your Pro subscription has ended"
    assert "You have the limits of Free now." in last().body
    assert links_in(last().body) == [BILLING_PAGE]


def test_a_change_of_plan_names_the_old_and_the_new_one(subscribed, plans):
    publish_plan(plans.team)
    fee, usage = subscribed.subscription["_items"]
    lines = lines_of(type(plans.team).objects.get(slug="team"))
    items: Any = [{"id": fee, **lines[0]}, {"id": usage, **lines[1]}]
    get_client().v1.subscriptions.update(subscribed.subscription["id"], {"items": items})
    subscribed.hear()
    subscribed.post()

    assert last().subject == "You are on Team now"
    assert "from Pro to Team" in last().body
    assert "100,000 calls a month" in last().body


def test_a_trial_s_end_is_told_three_days_ahead_with_what_it_will_cost(stage, plans):
    stage.subscribe(plans.pro, trial_days=14)
    end = stage.now + 14 * DAY
    assert "on trial until 24 March 2027" in first_sent(stage).body
    stage.go(end - 3 * DAY - HOUR)
    assert "trial_ending" not in stage.notices()

    stage.go(end - 3 * DAY)

    assert last().subject == "Your Pro trial ends on 24 March"
    assert "on 24 March 2027 at 09:30 (UTC)" in last().body
    assert "your card is charged: $29 a month" in last().body
    stage.go(end + 2 * HOUR)
    assert stage.notices() == ["plan_changed", "trial_ending"]


def first_sent(stage: Stage) -> Any:
    stage.post()
    return mail.outbox[0]


@pytest.mark.parametrize(
    ("card", "sentence", "label"),
    [
        (GOOD_CARD, "nothing will be charged", "Cancel or change your plan"),
        (None, "We have no card of yours yet.", "Add a card"),
    ],
)
def test_a_trial_s_end_is_told_as_it_will_be(stage, plans, card, sentence, label):
    subscription = stage.subscribe(plans.pro, trial_days=5, card=card)
    if card:
        get_client().v1.subscriptions.update(subscription, {"cancel_at_period_end": True})
        stage.hear()
    stage.go(2 * DAY)

    assert sentence in last().body
    assert label in last().body


def test_a_trial_s_end_is_told_though_the_webhook_was_lost(stage, plans):
    stage.subscribe(plans.pro, trial_days=14)
    stage.post()
    stage.hears = False
    stage.go(11 * DAY)
    assert "trial_ending" not in stage.notices()

    note_trials_ending()
    note_trials_ending()
    stage.hears = True
    stage.hear()

    assert stage.notices() == ["plan_changed", "trial_ending"]


def test_a_trial_that_is_given_longer_has_its_end_told_anew(stage, plans):
    subscription = stage.subscribe(plans.pro, trial_days=5)
    stage.go(2 * DAY)
    later = int((stage.now + 10 * DAY).timestamp())
    get_client().v1.subscriptions.update(subscription, {"trial_end": later, "proration_behavior": "none"})
    stage.hear()
    stage.go(7 * DAY)

    assert stage.notices() == ["plan_changed", "trial_ending", "trial_ending"]


def test_access_that_ends_altogether_is_told_as_that(subscribed):
    StatusPolicy.objects.filter(status="past_due", from_day=7).update(access=Access.NONE, banner="")
    fail(subscribed)
    subscribed.go(7 * DAY)

    assert last().subject == "Your API access is suspended"
    assert "Calls with your API keys are refused now." in last().body
    assert "What you have now" not in last().body


def test_a_rule_that_takes_nothing_away_sends_its_words_as_a_reminder(subscribed):
    StatusPolicy.objects.create(
        status="past_due",
        from_day=3,
        access=Access.FULL,
        banner="Four days are left for {plan}.",
        sends_email=True,
    )
    fail(subscribed)
    subscribed.go(3 * DAY)

    assert last().subject == "About your Pro subscription"
    assert last().body.startswith("Four days are left for Pro.")


def test_what_the_policy_says_nothing_of_by_e_mail_is_not_told(subscribed):
    StatusPolicy.objects.update(sends_email=False)
    fail(subscribed)
    subscribed.go(8 * DAY)
    subscribed.pay()
    subscribed.go(DAY)

    # Nor is a recovery from what was never told.
    assert [message.subject for message in mail.outbox] == ["You are on Pro now"]


@pytest.mark.parametrize("first", ["customer.deleted", "customer.subscription.deleted"])
def test_a_customer_deleted_at_stripe_is_told_of_the_end_once_in_either_order(subscribed, first):
    subscribed.go(HOUR)
    get_client().v1.customers.delete(subscribed.customer)
    subscribed.hear_only(first)
    subscribed.hear()
    subscribed.post()

    assert subscribed.notices() == ["plan_changed", "cancelled"]
    assert last().subject == "Your Pro subscription has ended"


def test_the_link_is_the_billing_page_where_stripe_has_none(subscribed):
    fail(subscribed)
    invoice = djstripe.Invoice.objects.get(stripe_data__status="open")
    invoice.stripe_data["hosted_invoice_url"] = None
    invoice.save()
    notice = Notice.objects.get(kind="payment_failed")
    delivery.send_again(notice)
    subscribed.post()

    assert links_in(last().body) == [BILLING_PAGE]


def test_dates_are_in_the_organization_s_own_time_zone(stage, plans):
    stage.organization.time_zone = "Asia/Kolkata"
    stage.organization.save()
    stage.subscribe(plans.pro, trial_days=3)
    stage.post()

    assert "13 March 2027 at 15:00 (Asia/Kolkata)" in last().body


def test_html_and_text_say_the_same_and_a_name_is_no_markup(stage, plans):
    stage.organization.name = "<b>Acme</b>"
    stage.organization.save()
    stage.subscribe(plans.pro)
    stage.post()
    html = last().alternatives[0][0]

    assert "&lt;b&gt;Acme&lt;/b&gt;" in html
    assert "<b>Acme</b>" in last().body
    for words in ("Your plan has changed from Free to Pro.", "10,000 calls a month", BILLING_PAGE):
        assert words in html
        assert words in last().body


@pytest.mark.parametrize(
    "kind", sorted(set(NoticeKind) - {NoticeKind.TRIAL_ENDING, NoticeKind.TRIAL_REFUSED})
)
def test_every_kind_has_its_words(subscribed, kind):
    """Said of a customer who owes: nothing is left blank, every link is absolute, and no secret is told."""
    fail(subscribed)
    context = {"plan": "pro", "plan_name": "Pro", "old_plan": "Free", "since": ""} | ALERT
    notice = Notice.objects.create(organization=subscribed.organization, kind=kind, key="x", context=context)
    letter = delivery.write_letter(notice, subscribed.entitlement, now=subscribed.now)

    assert letter.subject
    assert len(letter.text.split()) > 20
    assert "None" not in letter.text
    assert "  " not in letter.text.replace("\n  - ", "\n")
    assert all(link.startswith("http://127.0.0.1") for link in links_in(letter.text))
    assert "sk_" not in letter.text + letter.html


def test_who_is_told_is_the_billing_e_mail_of_the_moment(subscribed):
    subscribed.organization.email = "bills@acme.example"
    subscribed.organization.save()
    fail(subscribed)

    assert last().to == ["bills@acme.example"]
    assert Notice.objects.get(kind="payment_failed").recipient == "bills@acme.example"


def test_nothing_is_told_of_a_trial_that_no_one_has(subscribed):
    assert note_trial_ending(subscribed.organization, now=subscribed.now) == []
