"""CloudEvents 1.0: structured, batched, and in headers."""

import json
from urllib.parse import quote

import pytest

from tests.apikeys.sending import results
from tests.usage.ingesting import cloud, event, sell
from usage.models import UsageEvent

pytestmark = pytest.mark.django_db
ONE, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"


def headers_of(event):
    """Return a CloudEvent's attributes as headers, percent-encoded as the HTTP binding has it."""
    return {f"ce_{name}": quote(value, safe=" /:") for name, value in event.items() if name != "data"}


def test_one_cloudevent_is_taken(post, organization):
    at = organization.entitlement.period_start.isoformat()
    response = post(cloud(organization, time=at, data={"value": 25, "model": "large"}), ONE)

    assert results(response) == ["accepted"]
    stored = UsageEvent.objects.get()
    assert (stored.units, stored.meter, stored.endpoint) == (25, "requests", "/render/farm")
    assert stored.occurred_at == organization.entitlement.period_start
    assert response.json()["results"][0]["id"] == "1"


def test_a_charset_may_be_named(post, organization):
    assert results(post(cloud(organization), f"{ONE}; charset=utf-8")) == ["accepted"]


def test_a_batch_is_taken_event_by_event(post, organization):
    sent = [
        cloud(organization, "1"),
        cloud(organization, "2", data={"value": -1}),
        "no event",
        cloud(organization, "1"),
        cloud(organization, "3", traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ]

    assert results(post(sent, BATCH)) == ["accepted", "negative", "invalid", "duplicate", "accepted"]


def test_attributes_in_headers_and_data_as_the_body_are_taken(post, organization):
    sent = cloud(organization, "größe 1", data={"value": 7})

    assert results(post(sent["data"], **headers_of(sent))) == ["accepted"]
    assert results(post(sent, ONE)) == ["duplicate"]
    assert UsageEvent.objects.get().units == 7


@pytest.mark.parametrize(
    ("header", "id_"),
    [('"job 1"', "job 1"), (r'"a \"b\" \\ c"', r'a "b" \ c'), ('"gr%C3%B6"', "grö"), ('"', '"')],
)
def test_quotes_around_a_header_are_no_part_of_its_value(post, organization, header, id_):
    """The HTTP binding, 3.1.3.2: what older senders quote is the same event."""
    sent = cloud(organization, id_)

    assert results(post(sent, ONE)) == ["accepted"]
    assert results(post(sent["data"], **(headers_of(sent) | {"ce_id": header}))) == ["duplicate"]
    assert UsageEvent.objects.count() == 1


def test_in_headers_an_event_of_a_meter_that_counts_needs_no_data(post, organization):
    sell(organization, "jobs", "count")
    sent = cloud(organization, type="jobs", data=...)

    assert results(post(b"", "", **headers_of(sent))) == ["accepted"]
    sent = cloud(organization, "2", type="jobs", data=...)
    assert results(post(b"\x00\x01", "application/octet-stream", **headers_of(sent))) == ["accepted"]


def test_all_forms_name_one_event(post, organization):
    plain = event(organization, "1", source="/render/farm")

    assert results(post(plain)) == ["accepted"]
    assert results(post(cloud(organization), ONE)) == ["duplicate"]
    assert results(post([cloud(organization)], BATCH)) == ["duplicate"]
    assert results(post({"value": 1}, **headers_of(cloud(organization)))) == ["duplicate"]


@pytest.mark.parametrize(
    ("fields", "code", "names"),
    [
        ({"specversion": ...}, "missing", "specversion"),
        ({"specversion": "0.3"}, "invalid", "specversion"),
        ({"id": ...}, "missing", "id is"),
        ({"source": ...}, "missing", "source is"),
        ({"type": ...}, "missing", "type is"),
        ({"type": "gold"}, "unknown_meter", "type: no meter has the slug gold."),
        ({"subject": ...}, "missing", "subject is"),
        ({"subject": "nobody0000"}, "unknown_organization", "subject: no customer has the ref nobody0000."),
        ({"time": "yesterday"}, "invalid", "time has"),
        ({"data": ...}, "missing", "data.value"),
        ({"data": "text"}, "missing", "data.value"),
        ({"data": {"value": 1.5}}, "not_whole", "data.value"),
        ({"data": ..., "data_base64": "eyJ2YWx1ZSI6IDF9"}, "invalid", "data_base64"),
        ({"data": {"value": 1, "note": "x" * 70_000}}, "oversized", "65,536 bytes"),
    ],
)
def test_what_is_wrong_is_told_in_the_words_of_cloudevents(post, organization, fields, code, names):
    response = post([cloud(organization, "first"), cloud(organization, **fields)], BATCH)

    assert results(response) == ["accepted", code]
    assert names in response.json()["results"][1]["detail"]


def test_a_batch_that_is_no_array_is_a_400(post, organization):
    assert post(cloud(organization), BATCH).status_code == 400


def test_a_header_that_is_no_utf_8_is_a_400(post, organization):
    sent = headers_of(cloud(organization)) | {"ce_id": "%ff%fe"}

    assert post({"value": 1}, **sent).json()["detail"] == "The header ce-id is no UTF-8."


def test_data_in_the_body_that_is_no_json_is_a_400(post, organization):
    assert post(b"{", **headers_of(cloud(organization))).status_code == 400


def test_a_thousand_in_a_batch_are_taken(post, organization):
    sent = [cloud(organization, str(number)) for number in range(1000)]

    assert set(results(post(json.dumps(sent).encode(), BATCH))) == {"accepted"}


def test_a_cloudevent_s_size_is_counted_in_bytes_and_without_spaces_between(post, organization):
    told = [{"note": "€" * 20_000}, {"note": "€" * 22_000}, {"note": [1] * 32_000}, {"note": [1] * 33_000}]
    sent = [cloud(organization, str(n), data={"value": 1} | more) for n, more in enumerate(told)]
    body = json.dumps(sent, ensure_ascii=False, separators=(",", ":")).encode()

    assert results(post(body, BATCH)) == ["accepted", "oversized"] * 2
