"""Steps that several tests of repairs share: what one does and leaves, and what it must not change."""

from tests.usage.proving import MAY, of_april
from usage.models import Correction, MeterReport, Proof, UsageEvent, UsageRollup
from usage.repair import repair


def mended(acme) -> list[str]:
    """Repair, see that it is mended and that a second repair finds nothing; return what was done."""
    outcome = repair(acme.organization)
    assert outcome.left == []
    assert of_april(acme).status != Proof.Status.DIFFERS
    again = repair(acme.organization)
    assert (again.done, again.left) == ([], [])
    return outcome.done


def left(acme) -> list[str]:
    """Repair, see that nothing was done and nothing changed; return what is left."""
    before = counts()
    outcome = repair(acme.organization)
    assert outcome.done == []
    assert counts() == before
    return outcome.left


def counts() -> tuple[object, ...]:
    return (
        sorted(UsageEvent.objects.values_list("id", "units")),
        sorted(UsageRollup.objects.values_list("pk", "units", "reported_units")),
        sorted(MeterReport.objects.values_list("pk", "units", "state")),
        Correction.objects.count(),
    )


def invoice_may(acme) -> int:
    """Let May end, and return the cents that its invoice has of corrections."""
    acme.wait_until(MAY.replace(month=6))
    acme.wait(hours=2)
    lines = acme.last_invoice().lines.data
    return sum(line.amount for line in lines if (line.description or "").startswith("Correction"))
