"""A view that was called before is asked about while its request is still on its way to it."""

import socket

import pytest

from apikeys import ahead, cache
from config.rates import RATES, Rate
from tests.apikeys.test_gate import used

pytestmark = pytest.mark.django_db


@pytest.fixture
def settled(client, api_key, redis):
    """Call once, so that what the view asks is known."""
    headers = {"Authorization": f"Bearer {api_key.secret}"}
    assert client.get("/api/v1/echo", headers=headers).status_code == 200
    return headers


def test_one_question_is_asked_and_one_call_charged(client, api_key, organization, settled, monkeypatch):
    monkeypatch.setattr("apikeys.ahead.admit", never)

    answer = client.get("/api/v1/echo", headers=settled)

    assert answer["X-RateLimit-Remaining"] == "8"
    assert used(organization) == 2


def test_what_is_answered_before_the_view_is_given_back(client, organization, settled, monkeypatch, redis):
    monkeypatch.setitem(RATES, "echo", Rate(1))  # From now on: this address may come once.
    assert client.get("/api/v1/echo", headers=settled).status_code == 200

    assert client.get("/api/v1/echo", headers=settled).status_code == 429
    assert redis.llen(cache.names(organization.ref).window) == 3  # It was asked about.
    assert used(organization) == 2


def test_a_refusal_is_a_refusal(client, api_key, settled):
    for _ in range(9):
        client.get("/api/v1/echo", headers=settled)

    assert client.get("/api/v1/echo", headers=settled).status_code == 429


def test_a_revoked_key_is_refused_at_the_next_call(client, api_key, settled):
    api_key.key.revoke()

    assert client.get("/api/v1/echo", headers=settled).status_code == 401


def test_a_connection_that_is_lost_meanwhile_is_made_anew(client, settled, monkeypatch):
    decide, lost = ahead.decide, []

    def lose_and_decide(request, asked):
        line = request.gate_begun.question.line
        line.socket.shutdown(socket.SHUT_RDWR)
        lost.append(line)
        return decide(request, asked)

    monkeypatch.setattr(ahead, "decide", lose_and_decide)

    assert client.get("/api/v1/echo", headers=settled).status_code == 200
    assert len(lost) == 1


def test_a_cold_gate_is_filled(client, organization, settled):
    cache.drop(organization.ref)

    assert client.get("/api/v1/echo", headers=settled).status_code == 200
    assert used(organization) == 2


def never(*arguments, **options):
    raise AssertionError("The gate was asked twice.")
