"""Customers can manage keys, plan and money at any rate of their plan's, within limits of each key and person."""

from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from apikeys import cache
from apikeys.models import APIKey
from billing.api import base
from tests.billing.api import Program, problem
from tests.config.test_errors import until_refused

pytestmark = pytest.mark.django_db


@pytest.fixture
def program(organization):
    """Free allows ten calls a minute."""
    return Program(organization)


def use_up_the_rate(program: Program) -> None:
    assert [program.get("echo").status_code for _ in range(11)] == [*[200] * 10, 429]


def test_a_customer_at_the_rate_looks_and_changes_and_revokes(organization, program):
    use_up_the_rate(program)
    leaked, _ = APIKey.objects.issue(organization=organization, name="leaked")

    assert program.get("subscription").status_code == 200
    assert problem(program.post("subscription/undo"))["code"] == "no_subscription"
    assert program.delete(f"keys/{leaked.pk}").status_code == 200
    leaked.refresh_from_db()
    assert leaked.revoked_at


def test_management_takes_no_place_in_the_rate_and_tells_how_it_stands(program):
    assert program.get("echo")["X-RateLimit-Remaining"] == "9"

    seen = [program.get("keys") for _ in range(20)]

    assert {answer.status_code for answer in seen} == {200}
    assert {(answer["X-RateLimit-Limit"], answer["X-RateLimit-Remaining"]) for answer in seen} == {
        ("10", "9")
    }
    assert all('"minute";r=9;' in answer["RateLimit"] for answer in seen)
    assert program.get("echo")["X-RateLimit-Remaining"] == "8"


def test_a_key_s_own_cap_and_the_burst_refuse_no_management(organization, program):
    organization.entitlement.burst = 1
    organization.entitlement.save()
    APIKey.objects.filter(organization=organization).update(rate_per_minute=1)
    cache.drop(organization.ref)
    assert [program.get("echo").status_code for _ in range(2)] == [200, 429]

    assert program.get("keys").status_code == 200


@pytest.mark.parametrize(
    ("number", "path", "served"),
    [(300, "keys", 200), (60, "subscription/undo", 404)],
    ids=["reads", "writes"],
)
def test_who_hammers_one_key_keeps_nobody_with_another_from_managing(organization, number, path, served):
    def send(program: Program) -> Any:
        return program.get(path) if served == 200 else program.post(path)

    thief, owner = Program(organization), Program(organization)
    *answers, refused = until_refused(lambda: send(thief), rate=number)

    assert len(answers) >= number
    assert {answer.status_code for answer in answers} == {served}
    content = problem(refused)
    assert (refused.status_code, content["code"]) == (429, "throttled")
    assert 1 <= int(refused["Retry-After"]) <= 61
    assert content["retry_after"] == int(refused["Retry-After"])
    assert send(owner).status_code == served


def test_reads_leave_room_for_writes(program, monkeypatch):
    monkeypatch.setattr(base, "MANAGEMENT_READS", 2)

    assert 429 in [program.get("keys").status_code for _ in range(5)]
    assert program.post("keys", {"name": "another"}).status_code == 201


def test_people_with_a_session_are_counted_one_by_one(owner, outsider, organization, monkeypatch):
    monkeypatch.setattr(base, "MANAGEMENT_READS", 2)

    def browser(user: User) -> Client:
        client = Client()
        client.force_login(user, backend="allauth.account.auth_backends.AuthenticationBackend")
        return client

    person = browser(owner)
    assert 429 in [person.get("/api/v1/keys").status_code for _ in range(5)]
    assert Program(organization).get("keys").status_code == 200
    assert browser(outsider).get("/api/v1/keys").status_code == 200
