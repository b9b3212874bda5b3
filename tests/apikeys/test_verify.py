"""keys/verify: the gate for any language."""

import json
import logging
from datetime import timedelta

import pytest
from django.db import OperationalError

from accounts import clock
from apikeys import about, cache
from apikeys.models import APIKey, ServiceToken
from apikeys.signals import keys_changed
from billing.entitlements import refresh_entitlement
from billing.models import PlanOverride
from tests.apikeys.cast import include_tokens, ledger, restrict, service_token

pytestmark = pytest.mark.django_db

ADDRESS = "/api/v1/keys/verify"


@pytest.fixture
def verify(client, api_key):
    token = service_token(ServiceToken.Scope.VERIFY)

    def verify(authorization=f"Bearer {token}", **fields):
        headers = {"Authorization": authorization} if authorization else {}
        content = {"key": api_key.secret} | fields
        return client.post(ADDRESS, content, content_type="application/json", headers=headers)

    return verify


def test_a_good_key_is_valid_and_described(verify, organization, api_key):
    response = verify(cost=3)
    content = response.json()

    period = organization.entitlement.period_end - organization.entitlement.period_start
    assert response.status_code == 200
    assert response["Cache-Control"] == "no-store"
    limits = content.pop("limits")
    content.pop("runs_out_at")
    assert content == {
        "valid": True,
        "code": "admitted",
        "detail": None,
        "organization": organization.ref,
        "key_id": str(api_key.key.pk),
        "name": "test",
        "plan": "free",
        "livemode": True,
        "scopes": [],
        "meter": "requests",
        "used": 3,
        "remaining": 97,
        "policy": None,
        "retry_after": None,
        "next_plan": None,
        "reservation": None,
        "settle_by": None,
    }
    assert [(each["policy"], each["limit"], each["remaining"]) for each in limits] == [
        ("minute", 10, 9),
        ("period", 100, 97),
    ]
    assert limits[1]["window"] == period.total_seconds()


def test_a_verified_call_is_an_event(verify, drain, api_key):
    verify(cost=2, endpoint="/v1/chat", method="post")
    verify()

    first, second = ledger(drain)
    assert (first.units, first.endpoint, first.method, first.status) == (2, "/v1/chat", "POST", 0)
    assert (second.units, second.endpoint, second.method) == (1, "verify", "")
    assert first.api_key_id == api_key.key.pk


def test_a_cost_of_nothing_only_verifies(verify, drain):
    for _ in range(12):
        content = verify(cost=0).json()

    assert (content["valid"], content["used"], content["remaining"]) == (True, 0, 100)
    assert content["limits"][0]["remaining"] == 10
    assert ledger(drain) == []


def test_a_key_can_be_verified_while_its_rate_is_used_up(verify):
    for _ in range(10):
        verify()

    content = verify(cost=0).json()
    assert content["valid"]
    assert content["limits"][0]["remaining"] == 0
    assert content["limits"][0]["reset"] > 0


def test_a_meter_of_its_own(verify, organization):
    include_tokens(organization)

    content = verify(meter="tokens", cost=400).json()

    assert (content["meter"], content["used"], content["remaining"]) == ("tokens", 400, 600)


def test_a_meter_that_the_plan_has_not(verify):
    content = verify(meter="tokens").json()

    assert (content["valid"], content["code"], content["detail"]) == (
        False,
        "not_in_plan",
        "Your plan includes no tokens.",
    )


def test_no_end_is_null(verify, organization):
    organization.entitlement.quotas = {"requests": {"included": None, "overage": "block"}}
    organization.entitlement.rate_per_minute = None
    organization.entitlement.save()
    cache.drop(organization.ref)

    content = verify().json()

    assert (content["remaining"], content["limits"], content["used"]) == (None, [], 1)


@pytest.mark.parametrize("key", ["nonsense", "sk_live_" + "a" * 48, "π", " ", "a" * 1000])
def test_a_bad_key_is_an_answer_and_no_error(verify, drain, key):
    response = verify(key=key)
    content = response.json()

    assert (response.status_code, content["valid"], content["code"]) == (200, False, "invalid_key")
    assert {content[name] for name in ("organization", "key_id", "name", "plan", "livemode", "used")} == {
        None
    }
    assert content["limits"] == []
    assert ledger(drain) == []


def test_a_revoked_key_is_invalid_at_once(verify, api_key):
    assert verify().json()["valid"]
    api_key.key.revoke()

    assert verify().json()["code"] == "invalid_key"


def test_scopes_are_asked_for(verify, api_key):
    restrict(api_key, scopes=["a", "b"])

    assert verify(scopes=["a", "b"]).json()["valid"]
    content = verify(scopes=["a", "c"]).json()
    assert (content["valid"], content["code"], content["scopes"]) == (False, "insufficient_scope", ["a", "b"])


def test_a_key_bound_to_networks_needs_the_address(verify, api_key):
    restrict(api_key, allowed_networks=["2001:db8::/32"])

    assert verify(address="2001:db8::1").json()["valid"]
    assert verify(address="198.51.100.1").json()["code"] == "address_not_allowed"
    assert verify().json()["code"] == "address_not_allowed"


def test_a_limit_says_which_one_and_when_to_come_back(verify):
    for _ in range(10):
        verify()
    content = verify().json()

    assert (content["valid"], content["code"], content["policy"]) == (False, "rate_limited", "minute")
    assert 1 <= content["retry_after"] <= 60
    assert content["next_plan"] == {"slug": "pro", "name": "Pro", "limit": 100}


def test_a_quota_that_will_not_last_says_when_it_runs_out(verify, organization):
    with clock.standing_at(organization.entitlement.period_start + timedelta(days=1)):
        content = verify(cost=50).json()

    assert content["runs_out_at"] == (organization.entitlement.period_start + timedelta(days=2)).isoformat(
        timespec="milliseconds"
    )


def test_a_test_key_says_so_and_is_not_billed(verify, api_key, drain):
    restrict(api_key, mode="test")

    assert verify().json()["livemode"] is False
    assert ledger(drain) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cost", -1),
        ("cost", "many"),
        ("cost", 1.5),
        ("cost", 10**9),
        ("meter", "Tokens!"),
        ("scopes", "a b"),
        ("scopes", ['a"b']),
        ("address", "somewhere"),
        ("endpoint", "a\nb"),
        ("method", "G T"),
        ("key", None),
        ("key", ""),
        ("key", "a" * 1001),
        ("key", ["a"]),
        ("kee", "x"),
    ],
)
def test_a_field_that_is_wrong_is_named(verify, drain, field, value):
    response = verify(**{field: value})

    assert (response.status_code, response.json()["code"]) == (400, "invalid")
    assert list(response.json()["errors"]) == [field]
    assert ledger(drain) == []


@pytest.mark.parametrize("body", ["{", "[]", '"x"', "null", '{"key": '])
def test_what_is_no_object_is_refused(client, body):
    token = service_token()
    response = client.post(
        ADDRESS, body, content_type="application/json", headers={"Authorization": f"Bearer {token}"}
    )

    assert response.status_code == 400


def test_the_key_is_in_no_error_and_no_log(verify, client, api_key, caplog, monkeypatch):
    token = service_token()
    secret = api_key.secret
    with caplog.at_level(logging.DEBUG):
        answers = [
            verify(cost=-1),
            verify(**{secret: 1}),
            verify(meter=secret),
            verify(address=secret),
            verify(scopes=["x"]),
            client.post(
                ADDRESS,
                json.dumps({"key": secret})[:-1],
                content_type="application/json",
                headers={"Authorization": f"Bearer {token}"},
            ),
            verify(),
        ]
        monkeypatch.setattr("apikeys.gate.ask", lambda *args, **kwargs: 1 / 0)
        client.raise_request_exception = False
        answers.append(verify())

    assert answers[-1].status_code == 500
    assert not any(secret in answer.content.decode() for answer in answers)
    assert secret not in caplog.text
    assert token not in caplog.text


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer nonsense", "Basic dTpw"])
def test_without_a_service_token_nothing_is_said(verify, authorization):
    response = verify(authorization)

    assert (response.status_code, response.json()["code"]) == (401, "invalid_service_token")
    assert "organization" not in response.json()


def test_an_outsider_cannot_look_at_anothers_key_with_one_of_their_own(verify, outsider):
    rival = outsider.memberships.get().organization
    _, secret = APIKey.objects.issue(organization=rival, name="rival")

    assert verify(f"Bearer {secret}").status_code == 401


def test_a_token_for_something_else_is_403(verify):
    token = service_token(ServiceToken.Scope.AUTHORIZE)
    response = verify(f"Bearer {token}")

    assert (response.status_code, response.json()["scopes"]) == (403, ["keys:verify"])


def test_with_the_gate_out_of_reach_it_is_503_and_no_verdict(verify, own_redis, settings):
    settings.GATE_WITHOUT_REDIS = "refuse"
    own_redis.stop()
    response = verify()

    assert (response.status_code, response.json()["code"], response["Retry-After"]) == (
        503,
        "gate_unavailable",
        "1",
    )


def test_with_redis_out_of_reach_a_known_key_is_verified(verify, own_redis):
    verify()
    own_redis.stop()
    content = verify().json()

    assert (content["valid"], content["plan"], content["name"]) == (True, "free", "test")
    assert "minute" not in [limit["policy"] for limit in content["limits"]]


def test_what_is_said_of_a_key_is_read_once(verify, django_assert_num_queries):
    verify()

    with django_assert_num_queries(0):
        assert verify().json()["plan"] == "free"


def test_what_is_said_of_a_key_is_never_old(verify, organization, plans, api_key):
    assert verify().json()["plan"] == "free"
    PlanOverride.objects.create(organization=organization, plan=plans.team, reason="a favour")
    refresh_entitlement(organization)
    assert verify().json()["plan"] == "team"

    APIKey.objects.filter(pk=api_key.key.pk).update(name="renamed")
    keys_changed.send(sender=APIKey, organization=organization)
    assert verify().json()["name"] == "renamed"


def test_with_postgresql_out_of_reach_a_key_is_verified_with_less_to_say(verify, monkeypatch, organization):
    verify()
    about.drop(organization.ref)

    def fail(*args, **kwargs):
        raise OperationalError

    monkeypatch.setattr("apikeys.about.lock_entitlement", fail)
    content = verify().json()

    assert (content["valid"], content["plan"], content["remaining"]) == (True, None, 98)


@pytest.mark.parametrize("opening", ["[", '{"key":'])
def test_a_body_that_is_nested_without_end_is_a_bad_one(client, opening):
    token = service_token(ServiceToken.Scope.VERIFY)

    answer = client.post(
        ADDRESS,
        opening * 100_000,
        content_type="application/json",
        headers={"Authorization": f"Bearer {token}"},
    )

    assert (answer.status_code, answer.json()["code"]) == (400, "parse_error")
