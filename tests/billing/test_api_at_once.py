"""The same write from many threads at once: done once, and nobody is answered with an error of ours."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection

from tests.billing.api import Program, problem
from tests.billing.cast import publish_all, subscribe
from tests.exhaustive import CROWDS

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.long]


def at_once(callers: int, call: Callable[[], Any]) -> list[Any]:
    def once(_: int) -> Any:
        try:
            return call()
        finally:
            connection.close()

    with ThreadPoolExecutor(callers) as threads:
        return list(threads.map(once, range(callers)))


def codes(answers: list[Any]) -> set[str]:
    """Return the codes of those that were refused."""
    return {problem(answer)["code"] for answer in answers if answer.status_code >= 400}


@pytest.fixture
def program(organization):
    return Program(organization)


@pytest.fixture
def pro(sandbox, organization, plans):
    return subscribe(sandbox, organization, plan=plans.pro)


@pytest.mark.exhaustive
@pytest.mark.parametrize("callers", CROWDS)
def test_subscribing(sandbox, program, plans, callers):
    publish_all()

    answers = at_once(callers, lambda: program.post("subscription", {"plan": "pro"}))

    assert codes(answers) == set()
    assert len({answer.json()["client_secret"] for answer in answers}) == 1
    assert len(list(sandbox.every("subscription"))) == 1


@pytest.mark.exhaustive
@pytest.mark.parametrize("callers", CROWDS)
def test_opening_a_checkout(sandbox, program, plans, callers):
    publish_all()

    answers = at_once(callers, lambda: program.post("checkout-sessions", {"plan": "pro"}))

    assert codes(answers) == set()
    # Each has a page of its own, and one of them can still be paid.
    assert [s["status"] for s in sandbox.every("checkout.session")].count("open") == 1


@pytest.mark.exhaustive
@pytest.mark.parametrize("callers", CROWDS)
def test_upgrading(sandbox, program, pro, callers):
    answers = at_once(callers, lambda: program.patch("subscription", {"plan": "team"}))

    assert codes(answers) == set()
    assert {answer.json()["outcome"] for answer in answers} == {"done"}
    assert sorted(i["amount_paid"] for i in sandbox.every("invoice")) == [2_900, 7_000]


@pytest.mark.exhaustive
@pytest.mark.parametrize("callers", CROWDS)
def test_downgrading_and_taking_it_back(sandbox, organization, plans, program, callers):
    subscribe(sandbox, organization, plan=plans.team)

    answers = at_once(callers, lambda: program.patch("subscription", {"plan": "pro"}))

    assert codes(answers) == set()
    schedules = [s["status"] for s in sandbox.every("subscription_schedule")]
    assert schedules.count("active") == 1

    undone = at_once(callers, lambda: program.post("subscription/undo"))

    assert codes(undone) == set()
    assert {answer.json()["scheduled_change"] for answer in undone} == {None}


@pytest.mark.exhaustive
@pytest.mark.parametrize("callers", CROWDS)
def test_cancelling_and_resuming(sandbox, program, pro, callers):
    ended = at_once(callers, lambda: program.delete("subscription"))
    resumed = at_once(callers, lambda: program.post("subscription/resume"))

    assert codes(ended) | codes(resumed) == set()
    assert len({answer.json()["cancels_at"] for answer in ended}) == 1
    assert {answer.json()["cancels_at"] for answer in resumed} == {None}


@pytest.mark.exhaustive
@pytest.mark.parametrize("callers", CROWDS)
def test_cancelling_now(sandbox, program, pro, callers):
    answers = at_once(callers, lambda: program.delete("subscription?when=now"))

    assert codes(answers) == set()
    assert {answer.json()["status"] for answer in answers} == {"canceled"}
    # The first one and the last one.
    assert len(list(sandbox.every("invoice"))) == 2
