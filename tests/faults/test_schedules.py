"""Played with real processes, see README.md. `make faults` plays five hundred."""

import pytest

from tests.faults import report
from tests.faults.play import play
from tests.faults.schedule import FILES, STRIPE_FAULTS, draw

SEEDS = range(1, 26)


@pytest.fixture(scope="module")
def results():
    return play(SEEDS, lanes=2)


@pytest.mark.long
def test_after_any_schedule_the_bill_is_the_ledger_and_nothing_acknowledged_is_lost(results):
    assert [report.told(result) for result in results if result["wrong"]] == []
    assert sum(map(report.difference, results)) == 0
    assert sorted(result["seed"] for result in results) == list(SEEDS)


@pytest.mark.long
def test_the_schedules_serve_customers_all_the_while(results):
    served = sum(result["counts"].get("served", 0) for result in results)
    invoiced = sum(result["counts"].get("invoiced", 0) for result in results)

    assert served > len(results) * 10
    assert invoiced > len(results) * 10


def test_a_seed_is_always_the_same_schedule():
    assert draw(7) == draw(7)
    assert draw(7) != draw(8)


def test_every_fault_is_among_those_played():
    acts = [act for seed in SEEDS for act in draw(seed).acts]

    assert {act.details["role"] for act in acts if act.what == "kill"} == {
        *("web", "web-worker", "drain", "worker", "beat")
    }
    assert {act.details["kind"] for act in acts if act.what == "stripe"} == set(STRIPE_FAULTS)
    assert {act.details["file"] for act in acts if act.what == "redis"} == set(FILES)
    assert {act.details["immediately"] for act in acts if act.what == "postgres"} == {True, False}
    assert {act.what for act in acts} >= {
        *("kill_drain_in_transaction", "kill_worker_in_call", "to_period_end", "to_hour_end", "move_customer")
    }
    assert any(draw(seed).ends_with_month for seed in SEEDS)


def test_a_web_server_is_not_killed_while_it_alone_holds_what_redis_did_not_take():
    for seed in range(1, 500):
        acts = draw(seed).acts
        deaths = [act for act in acts if act.what == "redis"]
        webs = [act.at for act in acts if act.what == "kill" and act.details["role"].startswith("web")]

        for death in deaths:
            died = death.at + death.details["behind"]
            assert not any(-0.6 < at - died < death.details["away"] + 3 for at in webs)
