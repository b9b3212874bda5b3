import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.stats import Figure, Spread, percentile, ratio, shuffled_rounds

samples = st.lists(st.integers(min_value=0, max_value=10_000).map(float), min_size=1)


def test_the_quartiles_of_known_samples():
    spread = Spread.of([5.0, 1.0, 4.0, 2.0, 3.0])

    assert (spread.low, spread.median, spread.high, spread.count) == (2.0, 3.0, 4.0, 5)


def test_one_slow_call_moves_no_median():
    assert Spread.of([10.0] * 9 + [10_000.0]).median == 10.0


@given(samples)
def test_the_quartiles_lie_within_the_samples_and_in_order(found):
    spread = Spread.of(found)

    assert min(found) <= spread.low <= spread.median <= spread.high <= max(found)


def test_no_samples_have_no_median():
    with pytest.raises(ValueError, match="nothing"):
        Spread.of([])


@pytest.mark.parametrize(("share", "value"), [(0.5, 50.0), (0.99, 99.0), (1, 100.0), (0.001, 1.0)])
def test_percentiles_of_one_to_a_hundred(share, value):
    assert percentile([float(number) for number in range(100, 0, -1)], share) == value


@given(samples, st.floats(min_value=0.01, max_value=1))
def test_at_least_that_share_lies_at_or_below_a_percentile(found, share):
    at = percentile(found, share)

    assert sum(each <= at for each in found) >= share * len(found) - 1e-6
    assert sum(each < at for each in found) < share * len(found)


@pytest.mark.parametrize("whole", [0, -3.0])
def test_a_measurement_lost_in_noise_gives_no_ratio(whole):
    with pytest.raises(ValueError, match="noise"):
        ratio(1.0, whole)


@pytest.mark.parametrize(("found", "word"), [(2.5, "met"), (2.51, "MISSED")])
def test_a_figure_says_whether_it_is_met(found, word):
    assert str(Figure("gate over round trips", found, 2.5)).startswith(word)


def test_every_round_has_each_kind_once():
    order = list(shuffled_rounds(["bare", "gated", "peers"], rounds=50))

    assert [sorted(order[place : place + 3]) for place in range(0, 150, 3)] == [
        ["bare", "gated", "peers"]
    ] * 50


def test_each_kind_follows_each_other_about_as_often():
    order = list(shuffled_rounds(["bare", "gated", "peers"], rounds=2000))
    before_bare = [first for first, second in itertools.pairwise(order) if second == "bare"]

    assert min(before_bare.count("gated"), before_bare.count("peers")) > 0.4 * len(before_bare)


def test_two_runs_measure_in_the_same_order():
    assert list(shuffled_rounds("abc", rounds=20)) == list(shuffled_rounds("abc", rounds=20))
