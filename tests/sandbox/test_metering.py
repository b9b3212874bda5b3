from typing import Any

import pytest
import stripe
from werkzeug.test import Client

from sandbox import Sandbox
from tests.sandbox.helpers import Shop

HOUR = 1_780_000_000 // 3600 * 3600


@pytest.fixture(autouse=True)
def frozen(sandbox: Sandbox) -> None:
    sandbox.set_clock(frozen_at=HOUR + 1800)


def report(shop: Shop, customer: str, value: str = "5", **params: Any) -> Any:
    payload = {"stripe_customer_id": customer, "value": value}
    return shop.api.billing.meter_events.create({"event_name": "requests", "payload": payload, **params})


def total(shop: Shop, meter: Any, customer: str) -> float:
    summary = shop.api.billing.meters.event_summaries.list(
        meter.id, {"customer": customer, "start_time": HOUR, "end_time": HOUR + 3600}
    )
    return summary.data[0].aggregated_value


def test_usage_adds_up(shop: Shop) -> None:
    meter, customer = shop.meter(), shop.customer().id
    report(shop, customer, "5")
    report(shop, customer, "7")
    report(shop, shop.customer().id, "100")
    assert total(shop, meter, customer) == 12


def test_a_duplicate_identifier_is_a_400_without_a_code(shop: Shop) -> None:
    meter, customer = shop.meter(), shop.customer().id
    report(shop, customer, identifier="hour-1")
    with pytest.raises(stripe.InvalidRequestError) as refused:
        report(shop, customer, "6", identifier="hour-1")
    assert refused.value.http_status == 400
    assert refused.value.error.type == "invalid_request_error"
    assert refused.value.code is None
    assert refused.value.user_message == "An event already exists with identifier hour-1."
    assert refused.value.headers["Stripe-Should-Retry"] == "false"
    assert total(shop, meter, customer) == 5


def test_an_identifier_may_come_again_after_a_day(shop: Shop, sandbox: Sandbox) -> None:
    shop.meter()
    customer = shop.customer().id
    report(shop, customer, identifier="hour-1")
    sandbox.set_clock(advance=24 * 3600 + 1)
    report(shop, customer, identifier="hour-1")


@pytest.mark.parametrize(
    ("offset", "taken"), [(-35 * 86400, True), (-35 * 86400 - 1, False), (300, True), (301, False)]
)
def test_timestamps_reach_from_35_days_back_to_5_minutes_ahead(
    shop: Shop, sandbox: Sandbox, offset: int, taken: bool
) -> None:
    shop.meter()
    customer = shop.customer().id
    if taken:
        report(shop, customer, timestamp=sandbox.now() + offset)
    else:
        with pytest.raises(stripe.InvalidRequestError):
            report(shop, customer, timestamp=sandbox.now() + offset)


def test_events_that_cannot_count_are_taken_and_shown(shop: Shop, browser: Client) -> None:
    meter, customer = shop.meter(), shop.customer().id
    report(shop, "cus_nobody")
    report(shop, customer, "1.5")
    report(shop, customer, event_name="unheard-of")
    assert total(shop, meter, customer) == 0
    rejected = browser.get("/sandbox/meter_events/rejected").json
    assert [each["rejected"] for each in rejected or []] == [
        "no_meter",
        "meter_event_invalid_value",
        "meter_event_customer_not_found",
    ]


def test_summaries_leave_out_their_end_and_align_with_the_minute(shop: Shop) -> None:
    meter, customer = shop.meter(), shop.customer().id
    report(shop, customer, "1", timestamp=HOUR)
    report(shop, customer, "2", timestamp=HOUR + 60)
    window = {"customer": customer, "start_time": HOUR, "end_time": HOUR + 60}
    assert shop.api.billing.meters.event_summaries.list(meter.id, window).data[0].aggregated_value == 1
    with pytest.raises(stripe.InvalidRequestError):
        shop.api.billing.meters.event_summaries.list(meter.id, {**window, "end_time": HOUR + 61})


def test_summaries_come_by_hour(shop: Shop) -> None:
    meter, customer = shop.meter(), shop.customer().id
    report(shop, customer, "1", timestamp=HOUR - 1)
    report(shop, customer, "2", timestamp=HOUR)
    window = {"customer": customer, "start_time": HOUR - 3600, "end_time": HOUR + 3600}
    listed = shop.api.billing.meters.event_summaries.list(
        meter.id, {**window, "value_grouping_window": "hour"}
    )
    assert [(each.start_time, each.aggregated_value) for each in listed.data] == [(HOUR, 2), (HOUR - 3600, 1)]


def test_a_cancelled_event_no_longer_counts(shop: Shop) -> None:
    meter, customer = shop.meter(), shop.customer().id
    report(shop, customer, identifier="oops")
    shop.api.billing.meter_event_adjustments.create(
        {"event_name": "requests", "type": "cancel", "cancel": {"identifier": "oops"}}
    )
    assert total(shop, meter, customer) == 0


def test_an_event_name_belongs_to_one_active_meter(shop: Shop) -> None:
    meter = shop.meter()
    with pytest.raises(stripe.InvalidRequestError):
        shop.meter()
    shop.api.billing.meters.deactivate(meter.id)
    shop.meter()
    with pytest.raises(stripe.InvalidRequestError):
        shop.api.billing.meters.reactivate(meter.id)
