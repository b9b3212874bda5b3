"""The doctor: what it makes of findings, and that it finds nothing where nothing is wrong."""

import json
import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from apikeys.gate import admit
from billing import doctor
from billing.doctor import CouldNotMend, Finding, Fix, Severity, check
from billing.errors import StripeUnavailable
from billing.models import Entitlement
from billing.setting_up import set_up
from billing.stripe.client import get_client
from tests.billing.cast import deliver, subscribe
from tests.usage.cast import serve
from usage.tasks import report_usage

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("durable_redis"), pytest.mark.long]


@pytest.fixture
def healthy(sandbox, organization, plans, api_key, drain):
    """All set up; Acme pays for Pro and uses it; everything that was told has arrived."""
    assert not set_up(without_tax=True).has_failed
    subscription = subscribe(sandbox, organization, plan=plans.pro)
    deliver(sandbox)
    serve(api_key, calls=3)
    drain.run_once()
    report_usage()
    deliver(sandbox)
    return subscription


@pytest.fixture
def registry(monkeypatch) -> None:
    """No checks but those that a test registers."""
    monkeypatch.setattr(doctor, "_checks", {})


def told(*args: str, code: int | None = None) -> str:
    out = StringIO()
    ended = None
    try:
        call_command("doctor", *args, stdout=out, no_color=True)
    except SystemExit as error:
        ended = error.code
    assert ended == code, out.getvalue()
    return out.getvalue()


def finding(**fields: Any) -> Finding:
    return Finding(
        **{"slug": "s", "severity": Severity.ERROR, "subject": "x", "sentence": "X is wrong.", **fields}
    )


def test_a_healthy_installation_is_clean(healthy, outsider):
    """Rival is on Free, and new."""
    assert [each.sentence for each in doctor.examine()] == []
    assert "Nothing is wrong." in told()


def test_every_check_says_what_it_looks_for():
    checks = doctor.all_checks()

    assert {each.slug for each in checks} >= {
        "archived-prices",
        "ageing-usage",
        "entitlement",
        "event-destination",
        "failed-notices",
        "failing-webhooks",
        "gate-copy",
        "live-keys",
        "meter-errors",
        "missed-webhooks",
        "no-customer",
        "orphaned-customers",
        "overdue-entitlements",
        "rejected-reports",
        "stuck-notices",
        "stuck-reports",
        "subscription-status",
        "two-customers",
        "two-subscriptions",
        "unanswered-reports",
        "unbilled-meters",
        "unsettled-trials",
        "webhook-endpoint",
    }
    assert all(each.looks_for.endswith(".") for each in checks)


def test_every_check_is_explained_to_staff():
    guide = (Path(settings.BASE_DIR) / "docs" / "repair.md").read_text()
    named = {
        slug
        for line in re.findall(r"^\*\*([a-z, -]+)\.\*\*", guide, re.MULTILINE)
        for slug in line.split(", ")
    }

    assert named == {each.slug for each in doctor.all_checks()}


def test_the_command_names_what_is_wrong_and_ends_with_1(healthy, organization):
    Entitlement.objects.filter(organization=organization).update(rate_per_minute=7)

    said = told(code=1)

    assert "error   entitlement: The entitlement of Acme is wrong: rate_per_minute is 7, not 100." in said
    assert "Compute the entitlement anew. (doctor --fix does this)" in said
    assert said.endswith("left to do.\n")
    assert Entitlement.objects.get(organization=organization).rate_per_minute == 7


def test_fix_mends_what_is_safe_and_looks_again(healthy, organization):
    Entitlement.objects.filter(organization=organization).update(rate_per_minute=7)

    said = told("--fix")

    assert "mended  entitlement: The entitlement of Acme is wrong" in said
    assert "Nothing is wrong." in said
    assert Entitlement.objects.get(organization=organization).rate_per_minute == 100


def test_fix_leaves_what_needs_a_person_and_says_what_to_do(healthy):
    price = healthy.stripe_data["items"]["data"][0]["price"]["id"]
    get_client().v1.prices.update(price, {"active": False})

    said = told("--fix", "--only", "archived-prices", code=1)

    assert f"({price}) is archived at Stripe" in said
    assert "press Publish on the plan" in said


def test_json_tells_the_same(healthy, organization):
    Entitlement.objects.filter(organization=organization).update(rate_per_minute=7)

    found = json.loads(told("--json", "--only", "entitlement", code=1))
    mended = json.loads(told("--json", "--fix", "--only", "entitlement"))

    (each,) = found["left"]
    assert (each["check"], each["organization"]) == ("entitlement", organization.ref)
    assert each["fix"] == {"sentence": "Compute the entitlement anew.", "safe": True}
    assert (mended["mended"], mended["left"]) == ([f"entitlement:{organization.ref}"], [])


def test_one_check_can_be_made_alone(healthy, organization):
    Entitlement.objects.filter(organization=organization).update(rate_per_minute=7)

    assert "Nothing is wrong." in told("--only", "two-customers")
    with pytest.raises(CommandError, match="no check nonsense"):
        told("--only", "nonsense")


def test_looking_changes_nothing(healthy, organization, api_key):
    admit(api_key.secret)
    Entitlement.objects.filter(organization=organization).update(rate_per_minute=7)
    before = Entitlement.objects.get(organization=organization).version

    doctor.examine()

    assert Entitlement.objects.get(organization=organization).version == before
    assert admit(api_key.secret).rate_limit == 100  # The gate's copy is still there.


def test_a_check_that_cannot_be_made_is_a_finding(healthy, sandbox):
    sandbox.faults.add("server_error")

    found = {each.slug: each.sentence for each in doctor.examine()}

    assert "could not be checked to the end" in found["subscription-status"]
    assert "two-subscriptions" not in found  # It asks nobody but the mirror.


def test_a_check_that_breaks_hides_nothing_of_the_others(registry):
    @check("broken", "Breaks.")
    def broken() -> Iterator[Finding]:
        yield finding(slug="broken", sentence="Found before it broke.")
        raise KeyError("plan")

    @check("sound", "Works.")
    def sound() -> Iterator[Finding]:
        yield finding(slug="sound")

    assert [each.sentence for each in doctor.examine()] == [
        "Found before it broke.",
        "This could not be checked to the end: KeyError: 'plan'",
        "X is wrong.",
    ]


def test_a_slug_names_one_check(registry):
    check("one", "One.")(list)

    with pytest.raises(ValueError, match="one already"):
        check("one", "Another.")(list)


def test_a_fix_that_fails_holds_up_no_other(registry):
    done: list[str] = []

    def fail() -> None:
        raise StripeUnavailable("Stripe is down.")

    first = finding(subject="1", fix=Fix("Fail.", fail))
    second = finding(subject="2", fix=Fix("Work.", lambda: done.append("2")))
    treatment = doctor.mend([first, second])

    assert treatment.failed == [(first, "Stripe is down.")]
    assert (treatment.mended, done) == ([second], ["2"])


def test_a_failed_fix_is_told(registry):
    def fail() -> None:
        raise CouldNotMend("Not today.")

    check("one", "One.")(lambda: [finding(slug="one", fix=Fix("Mend it.", fail))])

    assert "The fix failed: Not today." in told("--fix", code=1)


def test_what_is_not_safe_is_never_done_unasked(registry):
    done: list[str] = []
    risky = finding(fix=Fix("Charge somebody.", lambda: done.append("charged"), is_safe=False))
    check("s", "Risks.")(lambda: [risky])

    assert "Charge somebody. (on the doctor's page, if you want it)" in told("--fix", code=1)

    assert done == []


def test_what_nothing_mends_cannot_be_treated():
    with pytest.raises(CouldNotMend):
        doctor.treat(finding())
