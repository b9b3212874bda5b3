"""Usage that reaches the ledger after its period was proven, so late that the period is not looked at every night."""

from datetime import UTC, datetime, timedelta

import pytest

from accounts import clock
from tests.billing.acme import Acme
from tests.usage.proving import APRIL, of_april, use_late
from usage import retention
from usage.models import Correction, MeterReport, Proof
from usage.proof import prove
from usage.proof.accepting import accept
from usage.proof.storing import oldest_wanted, prove_one
from usage.repair import repair
from usage.tasks import prove_usage, report_usage

pytestmark = pytest.mark.django_db

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
