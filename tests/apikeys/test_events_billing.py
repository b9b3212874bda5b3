"""A meter from the back office to the invoice: made, priced, published, bought, used by calls and events, billed."""

from datetime import UTC, datetime, timedelta

import pytest
from django.urls import reverse

from apikeys.gate import admit
from billing.models import Meter
from tests.apikeys.sending import results
from tests.billing.plan_form import add_row, form_of, page
from tests.usage.cast import serve
from tests.usage.ingesting import cloud, event
from usage.models import UsageEvent
from usage.tasks import report_usage

pytestmark = [pytest.mark.django_db, pytest.mark.long]
MAY = datetime(2026, 5, 1, tzinfo=UTC)


def make_meter(client, slug, aggregation):
    unit = slug.rstrip("s")
    form = {"name": slug.title(), "slug": slug, "unit": unit, "aggregation": aggregation}
    assert client.post(reverse("admin:billing_meter_add"), form).status_code == 302
    return Meter.objects.get(slug=slug)


def sell(client, plan, meter, *, included, tiers):
    """Add a quota and an overage price of the meter to the plan's page, and press Publish."""
    form = add_row(form_of(plan), "quotas", plan=plan.pk, meter=meter.pk, included=included, overage="bill")
    form = add_row(form, "overages", plan=plan.pk, meter=meter.pk, currency="usd", tiers=tiers, lookup_key="")
    assert client.post(page(plan), form).status_code == 302
    digest = client.get(page(plan, "publish")).context["publication"].digest
    client.post(page(plan, "publish"), {"digest": digest})


def lines(invoice):
    """Return units and cents of each line of usage by the slug of its meter."""
    found: dict[str, list[tuple[int, int]]] = {}
    for line in invoice.lines.data:
        product = line.pricing.price_details.product
        if product.startswith(Meter.PRODUCT_PREFIX):
            found.setdefault(product.removeprefix(Meter.PRODUCT_PREFIX), []).append(
                (line.quantity, line.amount)
            )
    return {
        slug: (sum(units for units, _ in rows), sum(cents for _, cents in rows))
        for slug, rows in found.items()
    }


def go_to_may(acme):
    report_usage()
    acme.wait_until(MAY)
    acme.see()
    report_usage()
    acme.wait(hours=2)
    return acme.last_invoice()


def test_a_second_meter_is_made_sold_used_and_billed_by_its_tiers(acme, plans, admin_client, post, api_key):
    tokens = make_meter(admin_client, "tokens", "sum")
    sell(admin_client, plans.pro, tokens, included=1_000, tiers="up to 2000: 2\nbeyond: 1")
    acme.subscribe(plans.pro)
    acme.wait(days=3)

    sent = [event(acme.organization, str(number), meter="tokens", value=700) for number in range(3)]
    assert results(post(sent)) == ["accepted"] * 3
    assert results(post(sent)) == ["duplicate"] * 3
    assert results(
        post(
            [cloud(acme.organization, type="tokens", data={"value": 400})],
            "application/cloudevents-batch+json",
        )
    ) == ["accepted"]
    assert admit(api_key.secret, meter="tokens", cost=0).used == 2_500
    invoice = go_to_may(acme)

    # 1,000 are included, the next 1,000 cost 2 cents each, and 500 one cent.
    assert lines(invoice)["tokens"] == (2_500, 2_500)
    assert invoice.amount_paid == 2_900 + 2_500


def test_calls_and_events_of_one_meter_are_billed_together(acme, plans, post, api_key, drain):
    acme.bill_overage(plans.pro, included=100, cents="10")
    acme.subscribe(plans.pro)
    serve(api_key, calls=30)
    drain.run_once()

    assert results(post(event(acme.organization, value=90))) == ["accepted"]
    assert admit(api_key.secret, cost=0).used == 120
    invoice = go_to_may(acme)

    assert lines(invoice)["requests"] == (120, 200)


@pytest.mark.parametrize(
    "case",
    [
        ("count", [..., ..., ..., ...], 4),
        ("max", [3, 12, 5, 12, 15], 15),
        ("unique", ["ann", "bob", "ann", "cid", 7, "7"], 4),
    ],
    ids=lambda case: case[0],
)
def test_each_kind_of_meter_is_billed_for_what_it_counts(acme, plans, admin_client, post, case):
    aggregation, values, units = case
    seats = make_meter(admin_client, "seats", aggregation)
    sell(admin_client, plans.pro, seats, included=2, tiers="beyond: 100")
    acme.subscribe(plans.pro)
    for number, value in enumerate(values):
        acme.wait(days=2)
        assert results(post(event(acme.organization, str(number), meter="seats", value=value))) == [
            "accepted"
        ]
        report_usage()

    assert lines(go_to_may(acme))["seats"] == (units, (units - 2) * 100)


def test_the_last_second_s_events_told_in_the_next_month_are_on_the_right_invoice(
    acme, plans, admin_client, post
):
    tokens = make_meter(admin_client, "tokens", "sum")
    sell(admin_client, plans.pro, tokens, included=10, tiers="beyond: 5")
    acme.subscribe(plans.pro)
    acme.wait_until(MAY + timedelta(minutes=25))

    last = (MAY - timedelta(microseconds=1)).isoformat()
    assert results(post(event(acme.organization, meter="tokens", value=30, time=last))) == ["accepted"]
    assert UsageEvent.objects.get().occurred_at < MAY
    report_usage()
    acme.wait(hours=2)

    assert lines(acme.last_invoice())["tokens"] == (30, 100)
