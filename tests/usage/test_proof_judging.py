"""The verdict on a period's figures: agreement is proven, and each single figure that is off is named."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usage.models import Proof
from usage.proof.judging import Figures, judge

Status = Proof.Status


def closed(units: int = 130, **changes: object) -> Figures:
    """The figures of a period that is over, with all of it invoiced."""
    agreeing = Figures(
        is_open=False, ledger=units, rollups=units, reported=units, stripe=units, invoiced=units
    )
    return replace(agreeing, **changes)


def running(units: int = 130, **changes: object) -> Figures:
    """The figures of a period that is open, with its invoice to come."""
    return replace(closed(units), is_open=True, invoiced=None, to_invoice=units, **changes)


def free(units: int = 130, **changes: object) -> Figures:
    """The figures of a period on a plan that bills nothing of the meter."""
    return replace(closed(units), invoiced=None, unbilled=units, **changes)


def named(figures: Figures) -> list[tuple[str, int]]:
    """Return what is a difference, with its units."""
    return [
        (fault.code, fault.units)
        for fault in judge(figures).faults
        if not fault.settled and fault.code not in Proof.ON_ITS_WAY
    ]


@pytest.mark.parametrize(
    ("figures", "status"),
    [
        (closed(), Status.PROVEN),
        (closed(0), Status.PROVEN),
        (closed(ledger=None), Status.PROVEN),
        (closed(stripe=None), Status.PROVEN),
        (free(), Status.PROVEN),
        (running(), Status.RUNNING),
        (running(rollups=142, ledger=142, unreported=12), Status.RUNNING),
        (running(rollups=142, ledger=142, waiting=12), Status.RUNNING),
        (closed(reported=118, stripe=118, invoiced=118, waiting=12), Status.WAITING),
        (closed(reported=118, stripe=118, invoiced=118, unreported=12), Status.WAITING),
        (closed(invoiced=None, to_invoice=130), Status.WAITING),
        (closed(invoiced=118, correcting=12), Status.WAITING),
    ],
)
def test_figures_that_agree_but_for_what_is_on_its_way_are_no_difference(figures, status):
    assert judge(figures).status == status
    assert named(figures) == []


@pytest.mark.parametrize(
    ("figures", "faults"),
    [
        # A row deleted from the ledger, and one doubled there.
        (closed(ledger=129), [("ledger_short", 1)]),
        (closed(ledger=131), [("ledger_over", 1)]),
        # A report's row lost before it was sent, and after: then Stripe has it all the same.
        (closed(reported=118, stripe=118, invoiced=118), [("reports_short", 12)]),
        (closed(reported=118), [("reports_short", 12), ("stripe_over", 12)]),
        # A report doubled: waiting, and sent.
        (closed(waiting=12), [("reports_over", 12)]),
        (closed(reported=142, stripe=142, invoiced=142), [("reports_over", 12)]),
        # Stripe counted something twice, before its invoice and after it.
        (closed(stripe=250, invoiced=250), [("stripe_over", 120)]),
        (closed(stripe=250), [("stripe_over", 120)]),
        (closed(stripe=10), [("stripe_short", 120)]),
        # Reported after the invoice was final, and refused by Stripe.
        (closed(invoiced=118), [("invoice_short", 12)]),
        (closed(reported=90, stripe=90, invoiced=90, rejected=40), [("refused", 40)]),
        (closed(invoiced=131), [("invoice_over", 1)]),
        # Sold, used, reported, and no invoice was ever made.
        (closed(invoiced=None), [("invoice_short", 130)]),
        (running(ledger=129), [("ledger_short", 1)]),
        (running(stripe=131), [("stripe_over", 1)]),
        (free(stripe=129), [("stripe_short", 1)]),
    ],
)
def test_each_difference_has_its_name_and_its_units(figures, faults):
    assert judge(figures).status == Status.DIFFERS
    assert named(figures) == faults


@pytest.mark.parametrize(
    ("figures", "reason"),
    [
        (closed(invoiced=118, corrected=12), "late"),
        (closed(reported=90, stripe=90, invoiced=90, replaced=40, corrected=40), "refused"),
        (closed(stripe=250, invoiced=250, corrected=-120, credited=120), "stripe_over"),
        (closed(reported=142, stripe=142, invoiced=142, corrected=-12, credited=12), "reports_over"),
        (free(given_up=130), "given_up"),
    ],
)
def test_what_a_correction_has_made_good_is_proven_and_still_told(figures, reason):
    assert judge(figures).status == Status.PROVEN
    assert [(fault.code, fault.settled) for fault in judge(figures).faults] == [(reason, True)]


@pytest.mark.parametrize("corrected", [11, 13])
def test_a_correction_of_too_few_or_too_many_units_is_a_difference(corrected):
    assert judge(closed(invoiced=118, corrected=corrected)).status == Status.DIFFERS


def test_what_stripe_may_have_counted_without_an_answer_is_no_difference_yet():
    doubtful = closed(reported=118, unknown=12, uncertain=12, invoiced=118)

    assert judge(doubtful).status == judge(replace(doubtful, stripe=118)).status == Status.WAITING
    assert judge(replace(doubtful, invoiced=130)).status == Status.WAITING
    assert named(replace(doubtful, stripe=131)) == [("stripe_over", 13)]


def test_stripe_s_count_may_lag_behind_what_it_took_a_moment_ago_and_no_further():
    lagging = running(stripe=120, fresh=10)

    assert judge(lagging).status == Status.RUNNING
    assert judge(closed(stripe=120, fresh=10)).status == Status.WAITING
    assert named(replace(lagging, stripe=119)) == [("stripe_short", 11)]


BREAKS = {
    "ledger": ("ledger_short", "ledger_over"),
    "reported": ("reports_short", "reports_over"),
    "stripe": ("stripe_short", "stripe_over"),
    "invoiced": ("invoice_short", "invoice_over"),
}
AGREEING = st.one_of(
    st.builds(closed, st.integers(1, 10**9)),
    st.builds(free, st.integers(1, 10**9)),
    st.builds(running, st.integers(1, 10**9)),
)


@given(AGREEING, st.sampled_from(sorted(BREAKS)), st.integers(-(10**9), 10**9).filter(bool))
def test_every_single_figure_that_is_off_by_any_number_of_units_is_caught_and_named(figures, which, by):
    before = getattr(figures, which)
    if before is None:
        before = 0
    if before + by < 0:
        by = -before
    broken = replace(figures, **{which: before + by})
    if which == "reported" and by:
        # Where the row belongs on invoices goes with the row.
        share = "to_invoice" if figures.to_invoice else "unbilled" if figures.unbilled else ""
        broken = replace(broken, **({share: getattr(figures, share) + by} if share else {}))
    assert judge(figures).status != Status.DIFFERS
    if by:
        assert judge(broken).status == Status.DIFFERS
        assert (BREAKS[which][by > 0], abs(by)) in named(broken)


@given(AGREEING, st.integers(-(10**6), 10**6).filter(bool))
def test_hourly_sums_that_were_changed_are_caught(figures, by):
    by = max(by, -figures.rollups)
    broken = replace(figures, rollups=figures.rollups + by)

    assert judge(broken).status == Status.DIFFERS
    assert named(broken)[0] == ("ledger_short" if by > 0 else "ledger_over", abs(by))


@given(
    st.builds(
        Figures,
        is_open=st.booleans(),
        ledger=st.none() | st.integers(0, 50),
        stripe=st.none() | st.integers(0, 50),
        invoiced=st.none() | st.integers(0, 50),
        **{
            name: st.integers(0, 50)
            for name in ("rollups", "unreported", "waiting", "unknown", "rejected", "reported", "to_invoice")
        },
    )
)
def test_nothing_is_called_proven_that_does_not_add_up(figures):
    verdict = judge(figures)

    if verdict.status == Status.PROVEN:
        assert figures.ledger in {None, figures.rollups}
        assert figures.rollups == figures.reported
        assert figures.stripe in {None, figures.reported}
        assert (figures.invoiced or 0) == figures.rollups
    assert all(fault.units > 0 for fault in verdict.faults)
