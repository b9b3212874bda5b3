"""Usage that reaches the ledger after its period was proven, so late that the period is not looked at every night."""

from datetime import UTC, datetime, timedelta

import pytest

from accounts import clock
from tests.billing.acme import Acme
from tests.usage.proving import APRIL, of_april, use_in, use_late
from usage import retention
from usage.models import Correction, MeterReport, Proof, UsageEvent
from usage.proof import prove
from usage.proof.accepting import accept
from usage.proof.storing import oldest_wanted, prove_one
from usage.repair import repair
from usage.tasks import prove_usage, report_usage

pytestmark = pytest.mark.django_db

END_OF_APRIL = datetime(2026, 4, 28, tzinfo=UTC)
# More than a hundred days after April began.
JULY = datetime(2026, 7, 12, tzinfo=UTC)
AUGUST = datetime(2026, 8, 2, tzinfo=UTC)


def go_on_to(acme: Acme, until: datetime) -> None:
    """Let weeks pass, each with its reports and proofs."""
    while clock.now() < until:
        acme.wait_until(min(until, clock.now() + timedelta(days=20)))
        acme.see()
        report_usage()
        prove_usage()


@pytest.fixture
def late(april):
    """Acme's April, proven, and 12 units of it that reached the ledger in July only, which Stripe takes no more."""
    assert of_april(april).status == Proof.Status.PROVEN
    go_on_to(april, JULY)
    use_late(april, units=12)
    report_usage()
    return april


@pytest.fixture
def spanning(acme, plans):
    """Acme, whose period began on 28 April, with 130 units of that day."""
    acme.bill_overage(plans.pro, included=100, cents="10")
    acme.wait_until(END_OF_APRIL)
    acme.see()
    acme.subscribe(plans.pro)
    acme.use(130)
    report_usage()
    return acme


def stored(acme: Acme, *, period_start: datetime = APRIL) -> Proof:
    return acme.organization.proofs.get(period_start=period_start)


def corrected() -> list[tuple[int, int]]:
    return list(Correction.objects.values_list("units", "amount"))


def test_a_straggler_of_a_period_that_was_proven_long_ago_is_seen_at_night(late):
    assert MeterReport.objects.get(units=12).rejection_code == MeterReport.TOO_OLD

    prove_usage()

    proof = stored(late)
    assert (proof.status, proof.ledger, proof.rejected) == (Proof.Status.DIFFERS, 142, 12)


def test_it_is_billed_by_repair_and_its_period_left_alone_afterwards(late):
    repair(late.organization)

    assert corrected() == [(12, 120)]
    proof = stored(late)
    assert (proof.status, proof.ledger, proof.corrected) == (Proof.Status.PROVEN, 142, 12)
    assert oldest_wanted([late.organization.pk], now=clock.now()) > APRIL


def test_one_that_was_accepted_is_looked_at_again_only_once_more_is_refused(late):
    prove_usage()
    accept(stored(late), seen=stored(late).snapshot, reason="Our fault.", by="ann@staff.example")
    assert oldest_wanted([late.organization.pk], now=clock.now()) > APRIL

    late.wait(hours=1)
    use_late(late, units=3)
    report_usage()
    prove(late.organization)

    assert (stored(late).status, stored(late).ledger) == (Proof.Status.DIFFERS, 145)


class TestTheLedgerSMonth:
    @pytest.fixture(autouse=True)
    def three_months(self, settings):
        settings.LEDGER_MONTHS = 3

    def test_it_is_kept_until_what_was_refused_is_corrected(self, late, caplog):
        go_on_to(late, AUGUST)

        assert retention.drop_old_partitions(clock.now()) == []
        assert "Stripe refused usage of it that is neither corrected nor accepted yet." in caplog.text
        repair(late.organization)
        assert corrected() == [(12, 120)]
        assert retention.drop_old_partitions(clock.now()) == ["usage_event_2026_04"]
        assert prove_one(stored(late)).status == Proof.Status.PROVEN

    def test_it_is_kept_no_longer_than_until_it_was_accepted(self, late):
        go_on_to(late, AUGUST)
        accept(stored(late), seen=stored(late).snapshot, reason="Our fault.", by="ann@staff.example")

        assert retention.drop_old_partitions(clock.now()) == ["usage_event_2026_04"]
        assert prove_one(stored(late)).status == Proof.Status.ACCEPTED

    def test_what_it_had_is_the_ledger_s_figure_also_of_periods_that_were_not_proven_since(self, late):
        MeterReport.objects.filter(units=12).update(state=MeterReport.State.SENT)
        assert stored(late).ledger == 130
        late.wait_until(AUGUST)

        assert retention.drop_old_partitions(clock.now()) == ["usage_event_2026_04"]

        proof = prove_one(stored(late))
        assert (proof.ledger, proof.rollups, proof.ledger_is_kept) == (142, 142, False)
        Proof.objects.all().delete()
        assert {p.ledger for p in prove(late.organization, since=APRIL) if p.period_start == APRIL} == {142}

    def test_a_period_that_began_in_it_gains_what_comes_to_its_other_month(self, spanning):
        go_on_to(spanning, AUGUST)
        assert stored(spanning, period_start=END_OF_APRIL).status == Proof.Status.PROVEN
        assert retention.drop_old_partitions(clock.now()) == ["usage_event_2026_04"]
        use_in(spanning, datetime(2026, 5, 27, tzinfo=UTC), units=12, period_start=END_OF_APRIL)
        report_usage()

        assert repair(spanning.organization).left == []

        assert corrected() == [(12, 120)]
        proof = stored(spanning, period_start=END_OF_APRIL)
        assert (proof.status, proof.ledger, proof.rollups) == (Proof.Status.PROVEN, 142, 142)

    def test_that_rows_of_its_other_month_are_missing_is_still_seen(self, spanning):
        spanning.wait(days=7)
        spanning.use(20)
        report_usage()
        go_on_to(spanning, AUGUST)
        assert retention.drop_old_partitions(clock.now()) == ["usage_event_2026_04"]

        UsageEvent.objects.filter(units=20).delete()

        proof = prove_one(stored(spanning, period_start=END_OF_APRIL))
        assert [(cause["code"], cause["units"]) for cause in proof.differences] == [("ledger_short", 20)]
