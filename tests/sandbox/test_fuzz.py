"""Any call, however absurd, is answered as Stripe would, and leaves what is there consistent.

`make fuzz` goes on for ten minutes.
"""

import hypothesis
import pytest
from hypothesis import strategies as st

from sandbox.routing import ENDPOINTS, Endpoint
from tests.sandbox.fuzz.calls import calls
from tests.sandbox.fuzz.play import PLANS, Plan, play
from tests.sandbox.fuzz.world import world

pytestmark = pytest.mark.long

QUICK = hypothesis.settings(
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
    phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
)


@hypothesis.settings(QUICK, max_examples=400)
@hypothesis.given(plan=PLANS)
def test_no_call_makes_the_sandbox_fail_or_contradict_itself(plan: Plan) -> None:
    play(plan)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda each: f"{each.method} {each.path}")
def test_no_endpoint_fails_whatever_it_is_sent(endpoint: Endpoint) -> None:
    @hypothesis.settings(QUICK, max_examples=4)
    @hypothesis.given(data=st.data())
    def send(data: st.DataObject) -> None:
        play(([data.draw(calls(endpoint)) for _ in range(3)], False))

    send()


def test_the_calls_reach_what_is_there() -> None:
    """Half of what is sent is taken, so that it is more than the reading of parameters that is tried."""
    answers = []

    @hypothesis.settings(QUICK, max_examples=150)
    @hypothesis.given(plan=PLANS)
    def send(plan: Plan) -> None:
        answers.extend(line.rpartition(" -> ")[2][:3] for line in play(plan).log if " -> " in line)

    send()
    assert answers.count("200") > len(answers) / 4
    assert answers.count("400") > len(answers) / 8


def test_a_world_is_left_as_it_was_for_the_next() -> None:
    before = world().sandbox.store._kept
    customer = next(iter(before["customer"]))
    one = world()
    with one.sandbox.change() as state:
        state.put({**state.get("customer", customer), "name": "Someone else"})
    assert world().sandbox.store._kept == before
