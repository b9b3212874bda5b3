"""Calls with no key that works are limited by address; those with one are not."""

from typing import Any

import pytest

from apikeys import error_handler
from apikeys.models import ServiceToken
from apikeys.secret import new_secret
from tests.billing.api import problem
from tests.config.test_errors import until_refused

pytestmark = pytest.mark.django_db
ECHO = "/api/v1/echo"
UNKNOWN = f"Bearer {new_secret('0123456789')}"


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(error_handler, "KEY_REFUSALS", 3)


def send(client: Any, authorization: str = "", path: str = ECHO, **extra: Any) -> Any:
    return client.get(path, headers={"Authorization": authorization} if authorization else {}, **extra)


def test_300_a_minute_are_told_why_and_the_rest_to_wait(client):
    *answers, refused = until_refused(lambda: send(client, "Bearer wrong"), rate=300)

    assert len(answers) >= 300
    assert {answer.status_code for answer in answers} == {401}
    content = problem(refused)
    assert (refused.status_code, content["code"]) == (429, "too_many_requests")
    assert 1 <= int(refused["Retry-After"]) <= 61
    assert content["retry_after"] == int(refused["Retry-After"])
    assert f"in {refused['Retry-After']} seconds" in content["detail"]
    assert "WWW-Authenticate" not in refused


@pytest.mark.parametrize(
    "authorization",
    ["", "Basic dTpw", "Bearer wrong", UNKNOWN],
    ids=["none", "basic", "malformed", "unknown"],
)
@pytest.mark.parametrize("path", [ECHO, "/api/v1/keys"], ids=["metered", "management"])
def test_each_way_to_have_no_key_is_counted(client, few, authorization, path):
    *answers, refused = until_refused(lambda: send(client, authorization, path), rate=3)

    assert {answer.status_code for answer in answers} == {401}
    assert refused.status_code == 429


def test_a_key_that_works_is_let_in_from_an_address_that_is_refused(client, few, api_key):
    until_refused(lambda: send(client), rate=3)

    assert [send(client, f"Bearer {api_key.secret}").status_code for _ in range(4)] == [200] * 4


def test_addresses_are_told_apart_and_an_ipv6_one_is_its_whole_64(client, few):
    until_refused(lambda: send(client), rate=3)
    assert send(client, REMOTE_ADDR="192.0.2.9").status_code == 401

    answers = [send(client, REMOTE_ADDR=f"2001:db8::{number:x}").status_code for number in range(1, 8)]
    assert 429 in answers
    assert send(client, REMOTE_ADDR="2001:db8:0:1::1").status_code == 401


def test_a_proxy_whose_clients_have_bad_keys_is_not_counted(client, few):
    _, token = ServiceToken.objects.issue(name="edge", scopes=ServiceToken.Scope.values)
    headers = {"Authorization": UNKNOWN, "X-Tollgate-Token": token}

    answers = [client.get("/api/v1/gateway/authorize", headers=headers).status_code for _ in range(9)]

    assert set(answers) == {401}


def test_bad_service_tokens_have_a_limit_of_their_own_with_the_time_to_wait(client, few):
    headers = {"Authorization": "Bearer wrong"}
    *answers, refused = until_refused(
        lambda: client.post("/api/v1/keys/verify", {}, content_type="application/json", headers=headers),
        rate=30,
    )

    assert len(answers) >= 30
    assert 1 <= int(refused["Retry-After"]) <= 61
    assert "service token" in problem(refused)["detail"]


def test_with_redis_out_of_reach_nobody_is_limited(client, few, settings):
    settings.CACHES = {
        "default": {"BACKEND": "config.cache.TolerantRedisCache", "LOCATION": "redis://127.0.0.1:1/0"}
    }

    assert {send(client).status_code for _ in range(9)} == {401}
