"""POST /api/v1/events: usage that the operator's own services tell of."""

import gzip
import json
import zlib
from uuid import UUID

import pytest
from django.db import OperationalError, connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts import clock
from accounts.models import Organization
from apikeys import gate
from apikeys.models import ServiceToken, UncountedUnits
from tests.apikeys.cast import service_token
from tests.apikeys.sending import ADDRESS, results
from tests.usage.ingesting import cloud, event
from usage.ingest import storing
from usage.models import UsageEvent, UsageRollup
from usage.outage import outage

pytestmark = pytest.mark.django_db


def test_an_event_is_in_the_ledger_when_the_answer_comes(post, organization):
    response = post({"events": [event(organization, "job-1", value=25)]})

    assert response.status_code == 200
    assert response["Cache-Control"] == "no-store"
    assert response.json() == {
        "accepted": 1,
        "duplicates": 0,
        "refused": 0,
        "results": [{"index": 0, "id": "job-1", "status": "accepted", "code": None, "detail": None}],
    }
    stored = UsageEvent.objects.get()
    assert (stored.units, stored.meter, stored.organization_id) == (25, "requests", organization.pk)
    assert (stored.endpoint, stored.method, stored.status, stored.response_ms) == ("service", "", 0, 0)
    assert UsageRollup.objects.units() == 25


def test_a_query_that_asks_for_another_format_finds_the_same_view(client):
    assert client.post(f"{ADDRESS}?format=xml", [], "application/json").status_code == 401


class TestWhoMaySend:
    def test_without_a_token_nobody(self, post):
        response = post([], authorization="")

        assert (response.status_code, response.json()["code"]) == (401, "invalid_service_token")
        assert response["WWW-Authenticate"].startswith("Bearer")

    def test_an_api_key_is_no_service_token(self, post, api_key):
        assert post([], authorization=f"Bearer {api_key.secret}").status_code == 401

    def test_a_token_that_may_do_other_things_may_not(self, post):
        others = set(ServiceToken.Scope.values) - {ServiceToken.Scope.EVENTS}
        response = post([], authorization=f"Bearer {service_token(*others)}")

        assert (response.status_code, response.json()["code"]) == (403, "insufficient_scope")
        assert response.json()["scopes"] == ["events:write"]

    def test_a_revoked_one_is_refused_by_the_next_call(self, post, organization):
        token, secret = ServiceToken.objects.issue(name="farm", scopes=["events:write"])
        assert post([event(organization)], authorization=f"Bearer {secret}").status_code == 200

        token.revoke()

        assert post([], authorization=f"Bearer {secret}").status_code == 401

    def test_each_token_has_so_many_calls_a_minute(self, post, monkeypatch):
        monkeypatch.setattr("apikeys.api.events.EVENT_CALLS", 2)

        answers = [post([]) for _ in range(3)]

        assert [each.status_code for each in answers] == [200, 200, 429]
        assert answers[2].json()["code"] == "throttled"
        assert int(answers[2]["Retry-After"]) >= 1
        assert post([], authorization=f"Bearer {service_token('events:write')}").status_code == 200

    @pytest.mark.parametrize("method", ["get", "put", "delete"])
    def test_other_methods_are_none(self, client, method):
        token = service_token("events:write")
        response = getattr(client, method)(ADDRESS, headers={"Authorization": f"Bearer {token}"})

        assert response.status_code == 405


class TestPlainJSON:
    def test_an_object_with_events_a_bare_array_and_a_single_event_are_taken(self, post, organization):
        assert results(post({"events": [event(organization, "1")]})) == ["accepted"]
        assert results(post([event(organization, "2")])) == ["accepted"]
        assert results(post(event(organization, "3"))) == ["accepted"]
        assert results(post([])) == []

    def test_what_becomes_of_each_is_told_in_its_order(self, post, organization):
        sent = [
            event(organization, "1"),
            event(organization, "2", value=-4),
            5,
            event(organization, "1"),
            event(organization, "1", value=2),
            event(organization, "half \ud800"),
        ]
        content = post(json.dumps(sent).encode()).json()

        assert [content[name] for name in ("accepted", "duplicates", "refused")] == [1, 1, 4]
        assert [each["index"] for each in content["results"]] == [0, 1, 2, 3, 4, 5]
        assert [each["id"] for each in content["results"]] == ["1", "2", None, "1", "1", None]
        assert [each["code"] or each["status"] for each in content["results"]] == [
            *("accepted", "negative", "invalid", "duplicate", "conflict", "invalid")
        ]
        assert content["results"][1]["detail"].startswith("value is negative")

    def test_a_thousand_are_taken_and_one_more_is_not(self, post, organization):
        events = [event(organization, str(number)) for number in range(1001)]

        assert results(post(events[:1000])) == ["accepted"] * 1000
        response = post(events)
        assert (response.status_code, response.json()["code"]) == (413, "content_too_large")
        assert UsageEvent.objects.count() == 1000

    @pytest.mark.parametrize(
        ("value", "code"), [("NaN", "not_finite"), ("Infinity", "not_finite"), ("-Infinity", "not_finite")]
    )
    def test_numbers_that_are_none_in_json_are_refused_by_themselves(self, post, organization, value, code):
        sent = json.dumps([event(organization, "1"), event(organization, "2", value="?")])

        assert results(post(sent.replace('"?"', value).encode())) == ["accepted", code]

    @pytest.mark.parametrize("digits", [41, 5_000, 100_000])
    def test_a_number_of_very_many_digits_is_refused_by_itself(self, post, organization, digits):
        sent = json.dumps([event(organization, "1"), event(organization, "2", value="?")])

        assert results(post(sent.replace('"?"', "9" * digits).encode())) == ["accepted", "too_large"]
        assert results(post(sent.replace('"?"', "-" + "9" * digits).encode())) == ["duplicate", "too_large"]

    @pytest.mark.parametrize(
        "body",
        [
            b"{",
            b"nonsense",
            b"\xff\xfe\xfd",
            b'"text"',
            b"5",
            b"null",
            b'{"events": {}}',
            b'{"events": null}',
            b'{"events": [], "more": 1}',
            b"[" * 100_000,
            b'{"a":' * 100_000,
        ],
    )
    def test_what_is_not_readable_as_a_whole_is_a_400(self, post, body):
        response = post(body)

        assert (response.status_code, response.json()["code"]) == (400, "invalid")
        assert response["Content-Type"] == "application/problem+json"

    def test_a_body_beyond_the_bound_is_refused(self, post):
        response = post(b" " * (4 * 2**20 + 1))

        assert (response.status_code, response.json()["code"]) == (413, "content_too_large")

    @pytest.mark.parametrize(
        "content_type",
        ["", "text/plain", "application/x-www-form-urlencoded", "application/cloudevents+avro"],
    )
    def test_other_kinds_of_body_are_a_415_that_names_those_that_are_taken(self, post, content_type):
        response = post([], content_type=content_type)

        assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")
        assert "application/cloudevents-batch+json" in response["Accept"]

    def test_a_body_in_chunks_is_asked_for_its_length(self, post):
        response = post([], Transfer_Encoding="chunked")

        assert (response.status_code, response.json()["code"]) == (411, "length_required")


class TestGzip:
    @pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP"])
    def test_a_packed_body_is_unpacked(self, post, organization, encoding):
        body = gzip.compress(json.dumps([event(organization)]).encode())

        assert results(post(body, Content_Encoding=encoding)) == ["accepted"]

    def test_several_members_are_one_body(self, post, organization):
        body = json.dumps([event(organization)]).encode()

        assert results(post(gzip.compress(body[:9]) + gzip.compress(body[9:]), Content_Encoding="gzip")) == [
            "accepted"
        ]

    def test_more_members_than_a_sender_has_cause_for_are_refused_before_they_cost_time(
        self, post, monkeypatch
    ):
        made = []
        whole = zlib.decompressobj
        monkeypatch.setattr(zlib, "decompressobj", lambda *args: made.append(args) or whole(*args))

        response = post(gzip.compress(b"") * 80_000 + gzip.compress(b"[]"), Content_Encoding="gzip")

        assert (response.status_code, response.json()["code"]) == (400, "invalid")
        assert "100 members" in response.json()["detail"]
        assert len(made) == 100

    def test_as_many_members_as_are_allowed_are_one_body(self, post):
        assert (
            post(gzip.compress(b"") * 99 + gzip.compress(b"[]"), Content_Encoding="gzip").status_code == 200
        )

    def test_a_body_that_is_said_not_to_be_packed_is_taken_as_it_is(self, post):
        assert post([], Content_Encoding="identity").status_code == 200

    def test_a_bomb_is_refused_before_it_goes_off(self, post):
        bomb = gzip.compress(b" " * 200 * 2**20)
        assert len(bomb) < 2**20

        response = post(bomb, Content_Encoding="gzip")

        assert (response.status_code, response.json()["code"]) == (413, "content_too_large")

    @pytest.mark.parametrize(
        "body",
        [b"[]", gzip.compress(b"[]")[:-4], gzip.compress(b"[]") + b"more", b"\x1f\x8b"],
        ids=["plain", "cut off", "with more behind it", "a beginning"],
    )
    def test_what_is_no_gzip_is_a_400(self, post, body):
        response = post(body, Content_Encoding="gzip")

        assert (response.status_code, response.json()["code"]) == (400, "invalid")

    @pytest.mark.parametrize("encoding", ["br", "deflate", "zstd", "gzip, gzip"])
    def test_other_encodings_are_a_415_that_names_the_one(self, post, encoding):
        response = post([], Content_Encoding=encoding)

        assert (response.status_code, response["Accept-Encoding"]) == (415, "gzip")
        assert response.json()["code"] == "unsupported_encoding"


def test_with_postgresql_out_of_reach_it_says_to_send_the_same_again(post, organization, monkeypatch):
    def unreachable(*args):
        raise OperationalError("PostgreSQL is away.")

    monkeypatch.setattr("usage.ingest.storing.Batch.take", unreachable)
    response = post([event(organization)])

    assert (response.status_code, response.json()["code"]) == (503, "events_not_stored")
    assert response["Retry-After"] == "1"
    monkeypatch.undo()
    assert results(post([event(organization)])) == ["accepted"]


@pytest.mark.parametrize(("is_known", "code"), [(True, "events_not_stored"), (False, "gate_unavailable")])
def test_with_postgresql_read_only_it_says_so_too(post, organization, is_known, code):
    """As while a standby is made the new primary. The token may be in Redis or not."""
    if is_known:
        post([])
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL transaction_read_only = on")
        response = post([event(organization)])
        transaction.set_rollback(True)

    assert (response.status_code, response.json()["code"]) == (503, code)
    assert int(response["Retry-After"]) >= 1
    assert results(post([event(organization)])) == ["accepted"]


class TestWithoutRoom:
    """A period that has nearly as many units as can be kept, and another customer's that has none."""

    @pytest.fixture
    def rival(self, outsider):
        return Organization.objects.open(name="Rival", owner=outsider)

    @pytest.fixture
    def keep(self, organization):
        def keep(units):
            hour = clock.now().replace(minute=0, second=0, microsecond=0)
            UsageRollup.objects.create(
                organization=organization,
                meter="requests",
                hour=hour,
                period_start=organization.entitlement.period_start,
                api_key_id=UUID(int=0),
                endpoint="service",
                units=units,
            )

        return keep

    def test_one_without_room_keeps_no_other_from_being_taken(self, post, organization, rival, keep):
        keep(2**63 - 5)

        response = post(
            [event(organization, "1", value=10), event(rival, "2", value=3), event(rival, "3", value=4)]
        )

        assert results(response) == ["too_large", "accepted", "accepted"]
        assert "its period would have more than" in response.json()["results"][0]["detail"]
        assert sum(UsageEvent.objects.values_list("units", flat=True)) == 7

    def test_a_counter_that_would_overflow_is_no_outage_of_redis(
        self, post, organization, rival, api_key, keep
    ):
        keep(2**63 - 5)
        gate.admit(api_key.secret)
        by_another_row = event(organization, "1", source="elsewhere", value=10)

        assert results(post([by_another_row, event(rival, "2")])) == ["too_large", "accepted"]
        assert not outage.is_on
        assert not UncountedUnits.objects.exists()

    def test_of_a_call_that_has_to_look_for_room_what_fits_is_taken(
        self, post, organization, keep, monkeypatch
    ):
        keep(2**63 - 5)
        monkeypatch.setattr(storing, "MOST_UNITS", 2**63 - 1)

        sent = [event(organization, str(value), value=value) for value in (3, 2, 0, 1)]

        assert results(post(sent)) == ["accepted", "too_large", "accepted", "accepted"]
        assert UsageRollup.objects.get().units == 2**63 - 1


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = [
    "source",
    "id",
    "organization",
    "meter",
    "time",
    "value",
    "specversion",
    "type",
    "subject",
    "data",
    "events",
]
FIELDS = st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), ANYTHING, max_size=7)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(FIELDS, max_size=4),
    kind=st.sampled_from(
        ["application/json", "application/cloudevents+json", "application/cloudevents-batch+json"]
    ),
    is_cloud=st.booleans(),
)
def test_whatever_is_sent_is_answered_event_by_event_and_never_a_500(
    post, organization, changes, kind, is_cloud
):
    base = cloud(organization) if is_cloud else event(organization)
    sent = [base | change for change in changes]
    with transaction.atomic():
        response = post(json.dumps(sent[0] if sent and kind.endswith("events+json") else sent).encode(), kind)

        assert response.status_code in {200, 400}
        if response.status_code == 200 and isinstance(response.json(), dict):
            content = response.json()
            statuses = [each["status"] for each in content["results"]]
            assert content["accepted"] == statuses.count("accepted") == UsageEvent.objects.count()
            assert all(
                each["code"] and each["detail"] for each in content["results"] if each["status"] == "refused"
            )
        transaction.set_rollback(True)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(min_size=1, max_size=60), encoding=st.sampled_from(["", "gzip"]))
def test_no_bytes_are_a_500(post, body, encoding):
    assert post(body, Content_Encoding=encoding).status_code in {200, 400}
