import pathlib
import time
from typing import Any

import pytest
import stripe
from werkzeug.test import Client

from sandbox import Sandbox
from sandbox.meters.metering import Report, take, usage_between
from sandbox.transport import SandboxHTTPClient
from tests.sandbox.helpers import KEY, Shop

HOUR = 1_780_000_000 // 3600 * 3600


@pytest.fixture(autouse=True)
def frozen(sandbox: Sandbox) -> None:
    sandbox.set_clock(frozen_at=HOUR + 1800)


def report(shop: Shop, customer: str, value: str = "5", **params: Any) -> Any:
    payload = {"stripe_customer_id": customer, "value": value}
    return shop.api.billing.meter_events.create({"event_name": "requests", "payload": payload, **params})


def formula_meter(shop: Shop, formula: str, *, event_name: str = "requests", **params: Any) -> Any:
    return shop.api.billing.meters.create(
        {
            "display_name": "Usage",
            "event_name": event_name,
            "default_aggregation": {"formula": formula},
            **params,
        }
    )


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


def test_a_value_of_the_payload_has_at_most_a_hundred_characters(shop: Shop) -> None:
    shop.meter()
    customer = shop.customer().id
    report(shop, customer, "1" * 100)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        report(shop, customer, "1" * 101)
    assert refused.value.param == "payload[value]"


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


def test_the_last_formula_bills_the_newest_value_and_count_the_number(shop: Shop, sandbox: Sandbox) -> None:
    customer = shop.customer().id
    last = formula_meter(shop, "last", event_name="seats")
    count = formula_meter(shop, "count", event_name="calls")
    for value, timestamp in (("7", HOUR + 120), ("9", HOUR + 60), ("8", HOUR + 120)):
        report(shop, customer, value, event_name="seats", timestamp=timestamp)
        report(shop, customer, value, event_name="calls", timestamp=timestamp)
    assert total(shop, last, customer) == 8
    assert total(shop, count, customer) == 3


@pytest.mark.parametrize(("window", "expected"), [("hour", 2 + 5), ("day", 5)])
def test_a_meter_of_pre_aggregated_events_keeps_the_newest_of_each_window(
    shop: Shop, sandbox: Sandbox, window: str, expected: int
) -> None:
    noon = HOUR // 86400 * 86400 - 12 * 3600
    meter = formula_meter(shop, "sum", event_time_window=window)
    customer = shop.customer().id
    for value, timestamp in (("1", noon), ("2", noon + 60), ("4", noon + 3600), ("5", noon + 3601)):
        report(shop, customer, value, timestamp=timestamp)
    window_of = {"customer": customer, "start_time": noon, "end_time": noon + 7200}
    (summary,) = shop.api.billing.meters.event_summaries.list(meter.id, window_of).data
    assert summary.aggregated_value == expected
    row = sandbox.get("billing.meter", meter.id)
    assert usage_between(sandbox, row, customer=customer, start=noon, end=noon + 7200) == expected


def test_usage_below_zero_is_billed_as_none(shop: Shop, sandbox: Sandbox) -> None:
    meter, customer = shop.meter(), shop.customer().id
    report(shop, customer, "-5")
    assert total(shop, meter, customer) == -5
    row = sandbox.get("billing.meter", meter.id)
    assert usage_between(sandbox, row, customer=customer, start=HOUR, end=HOUR + 3600) == 0


def test_summaries_lag_as_set_and_billing_does_not(shop: Shop, sandbox: Sandbox, browser: Client) -> None:
    meter, customer = shop.meter(), shop.customer().id
    assert browser.get("/sandbox/metering").json == {"lag": 0, "report_after": 10}
    assert browser.post("/sandbox/metering", json={"lag": 300}).json == {"lag": 300, "report_after": 10}
    report(shop, customer, "5")
    sandbox.set_clock(advance=60)
    report(shop, customer, "7")
    row = sandbox.get("billing.meter", meter.id)
    assert usage_between(sandbox, row, customer=customer, start=HOUR, end=HOUR + 3600) == 12
    for step, shown in ((0, 0), (239, 0), (1, 5), (59, 5), (1, 12)):
        sandbox.set_clock(advance=step)
        assert total(shop, meter, customer) == shown
        assert total(shop, meter, customer) == shown


@pytest.mark.parametrize("settings", [{"lag": -1}, {"lag": "soon"}, {"lag": 10**9}, {"speed": 1}])
def test_a_lag_that_makes_no_sense_is_refused(browser: Client, settings: dict[str, Any]) -> None:
    assert browser.post("/sandbox/metering", json=settings).status_code == 400


def test_an_event_cannot_be_cancelled_after_a_day_nor_one_that_never_was(
    shop: Shop, sandbox: Sandbox
) -> None:
    meter, customer = shop.meter(), shop.customer().id
    report(shop, customer, identifier="late", timestamp=HOUR)
    sandbox.set_clock(advance=24 * 3600)
    for identifier in ("late", "never"):
        with pytest.raises(stripe.InvalidRequestError):
            shop.api.billing.meter_event_adjustments.create(
                {"event_name": "requests", "type": "cancel", "cancel": {"identifier": identifier}}
            )
    assert total(shop, meter, customer) == 5


def test_an_inactive_meter_counts_nothing_until_it_is_active_again(shop: Shop, browser: Client) -> None:
    meter, customer = shop.meter(), shop.customer().id
    shop.api.billing.meters.deactivate(meter.id)
    report(shop, customer)
    rejected = browser.get("/sandbox/meter_events/rejected").json or []
    assert [each["rejected"] for each in rejected] == ["archived_meter"]
    shop.api.billing.meters.reactivate(meter.id)
    report(shop, customer)
    assert total(shop, meter, customer) == 5


def test_a_value_of_more_than_fifteen_digits_does_not_count(shop: Shop, browser: Client) -> None:
    meter, customer = shop.meter(), shop.customer().id
    report(shop, customer, "9" * 15)
    report(shop, customer, "9" * 16)
    report(shop, customer, "٣")
    rejected = browser.get("/sandbox/meter_events/rejected").json or []
    assert [each["rejected"] for each in rejected] == [
        "meter_event_invalid_value",
        "meter_event_value_too_many_digits",
    ]
    assert total(shop, meter, customer) == 999_999_999_999_999


def test_v2_checks_an_event_at_once(client: stripe.StripeClient, shop: Shop) -> None:
    customer = shop.customer().id
    good = {"stripe_customer_id": customer, "value": "5"}

    def refusal(payload: dict[str, str], **params: Any) -> str | None:
        with pytest.raises(stripe.InvalidRequestError) as refused:
            client.v2.billing.meter_events.create({"event_name": "requests", "payload": payload, **params})
        return refused.value.code

    assert refusal(good) == "no_meter"
    meter = shop.meter()
    assert refusal({**good, "value": "1.5"}) == "payload_invalid_value"
    assert refusal({"value": "5"}) == "payload_no_customer_defined"
    assert refusal({"stripe_customer_id": customer}) == "payload_no_value_defined"
    taken = client.v2.billing.meter_events.create(
        {
            "event_name": "requests",
            "payload": good,
            "identifier": "a",
            "timestamp": "2026-05-28T20:26:40+00:00",
        }
    )
    assert taken.timestamp == "2026-05-28T20:26:40.000Z"
    assert refusal(good, identifier="a") == "duplicate_meter_event"
    assert total(shop, meter, customer) == 5
    client.v2.billing.meter_event_adjustments.create(
        {"event_name": "requests", "type": "cancel", "cancel": {"identifier": "a"}}
    )
    assert total(shop, meter, customer) == 0
    shop.api.billing.meters.deactivate(meter.id)
    assert refusal(good) == "archived_meter"


def stream(transport: SandboxHTTPClient, token: str, events: list[Any]) -> None:
    client = stripe.StripeClient(token, http_client=transport)
    client.v2.billing.meter_event_stream.create({"events": events})


def test_the_stream_takes_a_hundred_events_with_a_sessions_token(
    client: stripe.StripeClient, transport: SandboxHTTPClient, shop: Shop
) -> None:
    meter, customer = shop.meter(), shop.customer().id
    token = client.v2.billing.meter_event_session.create().authentication_token
    event = {"event_name": "requests", "payload": {"stripe_customer_id": customer, "value": "1"}}
    stream(transport, token, [event] * 100)
    assert total(shop, meter, customer) == 100
    for number in (0, 101):
        with pytest.raises(stripe.InvalidRequestError):
            stream(transport, token, [event] * number)


def test_the_stream_refuses_no_single_event_and_reports_it_later(
    client: stripe.StripeClient, transport: SandboxHTTPClient, shop: Shop, sandbox: Sandbox
) -> None:
    meter, customer = shop.meter(), shop.customer().id
    token = client.v2.billing.meter_event_session.create().authentication_token

    def event(value: str, **more: str) -> dict[str, Any]:
        payload = {"stripe_customer_id": customer, "value": value}
        return {"event_name": "requests", "payload": payload, **more}

    stream(
        transport,
        token,
        [
            event("1", identifier="a"),
            event("2", identifier="a"),
            event("x"),
            event("4", timestamp="2020-01-01T00:00:00Z"),
            event("8"),
        ],
    )
    assert total(shop, meter, customer) == 9
    sandbox.set_clock(advance=10)
    (told,) = client.v2.core.events.list().data
    assert sorted(each["code"] for each in told["data"]["reason"]["error_types"]) == [
        "meter_event_invalid_value",
        "timestamp_too_far_in_past",
    ]


def test_a_sessions_token_ends_after_15_minutes_and_opens_nothing_else(
    client: stripe.StripeClient, transport: SandboxHTTPClient, shop: Shop, sandbox: Sandbox
) -> None:
    shop.meter()
    event = {"event_name": "requests", "payload": {"stripe_customer_id": shop.customer().id, "value": "1"}}
    session = client.v2.billing.meter_event_session.create()
    sandbox.set_clock(advance=15 * 60 - 1)
    stream(transport, session.authentication_token, [event])
    sandbox.set_clock(advance=1)
    with pytest.raises(stripe.TemporarySessionExpiredError) as expired:
        stream(transport, session.authentication_token, [event])
    assert (expired.value.http_status, expired.value.code) == (401, "billing_meter_event_session_expired")
    for token in (KEY, "token_test_unknown"):
        with pytest.raises(stripe.AuthenticationError):
            stream(transport, token, [event])
    fresh = client.v2.billing.meter_event_session.create().authentication_token
    with pytest.raises(stripe.AuthenticationError):
        stripe.StripeClient(fresh, http_client=transport).v1.customers.list()


def test_a_customer_on_a_test_clock_reports_by_its_time(shop: Shop, sandbox: Sandbox) -> None:
    meter = shop.meter()
    month_ahead = HOUR + 40 * 86400
    clock = shop.api.test_helpers.test_clocks.create({"frozen_time": month_ahead})
    customer = shop.customer(test_clock=clock.id).id
    report(shop, customer, timestamp=month_ahead)
    report(shop, customer)
    window = {"customer": customer, "start_time": month_ahead, "end_time": month_ahead + 60}
    (summary,) = shop.api.billing.meters.event_summaries.list(meter.id, window).data
    assert summary.aggregated_value == 10
    with pytest.raises(stripe.InvalidRequestError):
        report(shop, customer, timestamp=HOUR)


@pytest.mark.long
def test_thirty_thousand_events_stay_quick_to_add_up_also_after_a_restart(
    tmp_path: pathlib.Path,
) -> None:
    path = tmp_path / "state.sqlite3"
    sandbox = Sandbox(path=path)
    sandbox.set_clock(frozen_at=HOUR)
    with sandbox.change() as state:
        state.put(state.new("customer", id="cus_1"))
        state.put(
            state.new(
                "billing.meter",
                id="mtr_1",
                event_name="requests",
                status="active",
                event_time_window=None,
                customer_mapping={"event_payload_key": "stripe_customer_id", "type": "by_id"},
                default_aggregation={"formula": "sum"},
                value_settings={"event_payload_key": "value"},
            )
        )
    payload = {"stripe_customer_id": "cus_1", "value": "1"}
    for batch in range(0, 30_000, 100):
        with sandbox.change() as state:
            for number in range(batch, batch + 100):
                take(state, Report("requests", payload, timestamp=HOUR - number * 30))
    sandbox.close()

    again = Sandbox(path=path)
    meter = again.get("billing.meter", "mtr_1")
    started = time.thread_time()
    for day in range(10):
        end = HOUR - day * 86400 + 1
        assert usage_between(again, meter, customer="cus_1", start=end - 86400, end=end) == 2880
    # Time on the processor, of which others take none.
    assert time.thread_time() - started < 2
