"""The checker of the schedules finds what is broken by hand: one that cannot fail proves nothing."""

import time
from collections import Counter
from datetime import timedelta
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest
from django.db.models import F

from accounts import clock
from billing.models import Meter
from billing.stripe.client import get_client
from billing.stripe.metering import send_meter_event
from tests.billing.acme import START
from tests.faults import books as bookkeeping
from tests.faults.books import Account, Books
from tests.faults.director import Loss, Played
from tests.faults.load import ECHO, Call
from tests.faults.schedule import draw
from tests.faults.verdict import judge
from tests.usage.cast import make_event
from usage.ledger import store
from usage.models import MeterReport, UsageEvent, UsageRollup
from usage.tasks import report_usage

pytestmark = [pytest.mark.django_db, pytest.mark.long]

SEED = 7
DAY = timedelta(days=1)


class Stripe:
    """The sandbox in this process, asked as the lane asks its own."""

    def counted(self, meter_id: str, customer_id: str, *, start: int, end: int) -> int:
        params = {"customer": customer_id, "start_time": start, "end_time": end}
        found = get_client().v1.billing.meters.event_summaries.list(meter_id, params)
        return sum(int(each.aggregated_value) for each in found.data)

    def invoices(self, customer_id: str):
        found = get_client().v1.invoices.list({"customer": customer_id, "limit": 100}).data
        return [invoice for invoice in found if invoice.status != "void"]


@pytest.fixture
def customer(acme, plans):
    """Acme on Team, its first month over and invoiced: 12 units in three calls, and 4 in the second."""
    acme.bill_overage(plans.team, included=5, cents="3")
    acme.subscribe(plans.team)
    for number, units in enumerate([3, 4, 5]):
        acme.wait(days=1)
        serve(acme, units, endpoint=f"/faults/{SEED}/0/{number}")
    report_usage()
    renews_at = acme.entitlement().period_end
    acme.wait_until(renews_at + timedelta(minutes=5))
    acme.see()
    serve(acme, 4, endpoint=ECHO)
    report_usage()
    acme.wait(hours=2)
    acme.see()
    return SimpleNamespace(
        id=acme.organization.pk,
        name="acme",
        plan="team",
        stripe_id=acme.customer_id,
        subscription_id=acme.subscription_id,
        pays_since=int(START.timestamp()),
        renews_at=renews_at,
        entitlement=acme.entitlement(),
    )


def serve(acme, units: int, *, endpoint: str) -> None:
    start = acme.entitlement().period_start
    store(
        [
            make_event(
                organization_id=acme.organization.pk,
                at=clock.now(),
                units=units,
                period_start=start,
                endpoint=endpoint,
            )
        ]
    )


@pytest.fixture
def played(customer):
    """What callers were answered: all that is in the ledger."""
    now = time.monotonic()
    calls = [
        Call(customer, "verify", f"/faults/{SEED}/0/{number}", units, now)
        for number, units in enumerate([3, 4, 5])
    ]
    calls.append(Call(customer, "echo", ECHO, 4, now))
    for call in calls:
        call.conclude("served", least=call.units, most=call.units)
    calls[-1].conclude("served", least=1, most=1)
    return Played(draw(SEED), {"team": customer}, calls, renews_at=customer.renews_at)


def read(customer) -> Books:
    meters = dict(Meter.objects.values_list("slug", "stripe_meter_id"))
    accounts = [Account(customer.id, customer.name, customer.stripe_id)]
    return bookkeeping.read_books(accounts, stripe=Stripe(), meters=meters, now=clock.now())


def wrong(customer, played) -> list[str]:
    product = Meter.objects.get(slug="requests").product_id
    invoices = {"team": Stripe().invoices(customer.stripe_id)}
    return judge(played, read(customer), invoices=invoices, product=product).wrong


def test_where_all_agree_nothing_is_wrong(customer, played):
    books = read(customer)

    assert bookkeeping.total(books.ledger) == bookkeeping.total(books.sent) == 16
    assert sorted(books.stripe.values()) == [4, 12]
    assert wrong(customer, played) == []


def test_a_deleted_row_of_the_ledger_is_found(customer, played):
    UsageEvent.objects.filter(units=3).delete()

    found = wrong(customer, played)

    assert any("the ledger has 9 units, rollups 12" in each for each in found)
    assert any("the ledger has 9 units, Stripe's summary 12" in each for each in found)
    assert any("9 units in periods that are over, 12 on invoices" in each for each in found)
    assert any("/faults/7/0/0 (served: ; 3 units): 0 units are in the ledger" in each for each in found)


def test_a_raised_rollup_is_found(customer, played):
    first = UsageRollup.objects.order_by("hour").first()
    UsageRollup.objects.filter(pk=first.pk).update(units=F("units") + 1)

    assert [each.partition(": ")[2] for each in wrong(customer, played)] == [
        "the ledger has 12 units, rollups 13"
    ]


def test_a_report_that_was_doubled_here_is_found(customer, played):
    report = MeterReport.objects.order_by("hour").first()
    report.pk = uuid4()
    report.save(force_insert=True)

    assert any("reports sent" in each for each in wrong(customer, played))


def test_usage_that_stripe_counts_twice_is_found(customer, played):
    send_meter_event(
        event_name=Meter.objects.get(slug="requests").event_name,
        customer_id=customer.stripe_id,
        value=4,
        identifier="under-another-name",
        timestamp=clock.now(),
    )

    found = wrong(customer, played)

    assert any("the ledger has 4 units, Stripe's summary 8" in each for each in found)
    assert any("the ledger has 16 units, Stripe 20" in each for each in found)


def test_a_report_that_was_never_sent_is_found(customer, played):
    MeterReport.objects.filter(units=4).update(state=MeterReport.State.UNKNOWN)

    assert any("reports sent" in each for each in wrong(customer, played))


def test_an_event_that_was_stored_twice_is_found(customer, played):
    event = UsageEvent.objects.get(units=5)
    UsageEvent.objects.create(
        **{
            field.attname: getattr(event, field.attname)
            for field in event._meta.concrete_fields
            if field.attname not in {"pk", "id"}
        },
        id=uuid4(),
    )

    assert any("2 events are in the ledger" in each for each in wrong(customer, played))


def test_an_answered_call_that_is_nowhere_is_found(customer, played):
    lost = Call(customer, "verify", f"/faults/{SEED}/1/1", 2, time.monotonic())
    lost.conclude("served", least=2, most=2)
    played.calls.append(lost)

    assert any("/faults/7/1/1" in each for each in wrong(customer, played))


def test_a_call_without_an_answer_may_be_in_the_ledger_or_not(customer, played):
    played.calls[0].conclude("unknown", least=0, most=3)
    other = Call(customer, "verify", f"/faults/{SEED}/1/1", 2, time.monotonic())
    other.conclude("unknown", least=0, most=2)
    played.calls.append(other)

    assert wrong(customer, played) == []


def test_a_refused_call_that_is_billed_is_found(customer, played):
    played.calls[1].conclude("refused", least=0, most=0)

    assert any("4 units are in the ledger" in each for each in wrong(customer, played))


def test_only_what_was_on_redis_may_be_lost_with_its_data(customer, played):
    now = time.monotonic()
    calls = [Call(customer, "verify", f"/faults/{SEED}/1/{number}", 2, now) for number in range(2)]
    for call in calls:
        call.conclude("served", least=2, most=2)
    played.calls += calls
    held = Loss(frozenset({calls[0].endpoint}), Counter(), began=now + 60, ended=now + 61)
    played.losses.append(held)

    found = wrong(customer, played)

    assert len(found) == 1
    assert calls[1].endpoint in found[0]


def test_echoes_are_counted(customer, played):
    more = Call(customer, "echo", ECHO, 1, time.monotonic())
    more.conclude("served", least=1, most=1)
    played.calls.append(more)

    assert any("1 calls of echo are in the ledger, 2 were served" in each for each in wrong(customer, played))

    played.losses.append(Loss(frozenset(), Counter({UUID(str(customer.id)): 1}), began=0.0, ended=0.0))

    assert wrong(customer, played) == []


def test_a_hard_quota_that_was_passed_is_found(customer, played):
    quota = SimpleNamespace(**{**vars(customer), "plan": "free"})
    played.customers["team"] = quota
    played.schedule = draw(
        next(seed for seed in range(1, 99) if not any(a.what == "redis" for a in draw(seed).acts))
    )
    UsageEvent.objects.filter(units=5).update(units=45)

    assert any("the quota is 40" in each for each in wrong(customer, played))


def test_units_that_are_on_no_invoice_are_found(customer, played):
    product = Meter.objects.get(slug="requests").product_id

    verdict = judge(played, read(customer), invoices={"team": []}, product=product)

    assert verdict.wrong == ["acme: 12 units in periods that are over, 0 on invoices"]
