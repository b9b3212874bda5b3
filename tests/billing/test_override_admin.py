"""Special limits for one organization: what they come to, and how staff give and end them."""

from datetime import datetime, timedelta
from html import unescape
from importlib import import_module
from typing import Any

import pytest
from django.db import connection
from django.urls import reverse

from accounts import clock
from accounts.models import Organization
from apikeys.gate import admit
from billing.entitlements import refresh_entitlement
from billing.models import Access, Entitlement, Meter, PlanOverride, PlanQuota, QuotaOverride
from tests.billing.cast import subscribe
from tests.billing.test_entitlements import set_subscription
from tests.billing.test_policy_admin import staff

pytestmark = pytest.mark.django_db
LIST = reverse("admin:billing_planoverride_changelist")
ADD = reverse("admin:billing_planoverride_add")
NOON = datetime.fromisoformat("2027-05-12T12:00:00+00:00")
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def noon():
    with clock.standing_at(NOON) as hands:
        yield hands


def give(organization: Organization, *, quota: int | str | None = "", **fields: Any) -> PlanOverride:
    """Give special limits. `quota` is of requests; "" leaves it."""
    override = PlanOverride.objects.create(organization=organization, reason="a fair", **fields)
    if quota != "":
        QuotaOverride.objects.create(override=override, meter=Meter.objects.get(), included=quota)
    refresh_entitlement(organization)
    return override


def limits(organization: Organization, now: datetime = NOON) -> tuple[str, int | None, int | None]:
    entitlement = refresh_entitlement(organization, now=now)
    return entitlement.plan.slug, entitlement.rate_per_minute, entitlement.find_quota("requests")


def test_an_override_lies_over_the_plan_limit_by_limit(organization):
    give(organization, quota=500)
    assert limits(organization) == ("free", 10, 500)

    give(organization, changes_rate=True, rate_per_minute=77)
    assert limits(organization) == ("free", 77, 500)


def test_of_several_the_one_made_last_wins(organization, noon):
    give(organization, quota=500, changes_rate=True, rate_per_minute=50)
    noon.move(NOON + DAY)
    give(organization, quota=700)

    assert limits(organization, NOON + DAY) == ("free", 50, 700)


def test_an_override_that_gives_a_plan_hides_what_was_given_before_it(organization, plans, noon):
    give(organization, quota=5, changes_rate=True, rate_per_minute=5)
    noon.move(NOON + DAY)
    give(organization, plan=plans.team)

    assert limits(organization, NOON + DAY) == ("team", 500, 100_000)


def test_unlimited_is_given_by_leaving_the_number_empty(organization):
    give(organization, changes_rate=True, rate_per_minute=None, quota=None)

    assert limits(organization) == ("free", None, None)


def test_an_override_counts_from_its_start_up_to_its_end(organization):
    give(organization, quota=500, starts_at=NOON + DAY, ends_at=NOON + 2 * DAY)
    moment = timedelta(microseconds=1)

    quotas = [
        limits(organization, NOON + offset)[2] for offset in (DAY - moment, DAY, 2 * DAY - moment, 2 * DAY)
    ]

    assert quotas == [100, 500, 500, 100]


def test_the_entitlement_is_looked_at_again_where_an_override_begins_and_ends(organization):
    give(organization, quota=500, starts_at=NOON + DAY, ends_at=NOON + 2 * DAY)

    assert Entitlement.objects.get().valid_until == NOON + DAY
    assert refresh_entitlement(organization, now=NOON + DAY).valid_until == NOON + 2 * DAY


def test_limits_that_were_given_hold_whatever_is_owed(sandbox, organization, plans):
    set_subscription(subscribe(sandbox, organization, plan=plans.pro), status="unpaid")
    give(organization, plan=plans.team)

    entitlement = refresh_entitlement(organization)
    assert (entitlement.access, entitlement.plan, entitlement.bought_plan) == (
        Access.LIMITED,
        plans.team,
        plans.pro,
    )


def test_what_an_override_bills_is_refused_once_no_invoice_would_hold_it(acme, plans):
    acme.bill_overage(plans.pro, included=100, cents="2")
    acme.subscribe(plans.pro)
    override = give(acme.organization, quota=50, starts_at=acme.entitlement().period_start)
    override.quotas.update(overage=PlanQuota.Overage.BILL)
    assert refresh_entitlement(acme.organization).quotas["requests"] == {"included": 50, "overage": "bill"}

    acme.api.subscriptions.cancel(acme.subscription_id)
    acme.see()

    assert acme.entitlement().quotas["requests"] == {"included": 50, "overage": "block"}


def test_a_plan_s_further_units_are_refused_where_the_customer_s_own_plan_has_no_price_for_them(acme, plans):
    acme.bill_overage(plans.team, included=300, cents="1")
    acme.subscribe(plans.pro)

    give(acme.organization, plan=plans.team, starts_at=acme.entitlement().period_start)

    entitlement = acme.entitlement()
    assert (entitlement.plan, entitlement.bought_plan) == (plans.team, plans.pro)
    assert entitlement.quotas["requests"] == {"included": 300, "overage": "block"}


def test_another_organization_gets_nothing_of_it(organization, outsider):
    give(organization, quota=500)

    assert limits(Organization.objects.get(name="Rival"))[2] == 100


def fields(organization: Organization, **changes: Any) -> dict[str, Any]:
    return {
        "organization": str(organization.pk),
        "reason": "The fair in May",
        "plan": "",
        "rate_per_minute": "",
        "burst": "",
        "starts_at_0": f"{NOON:%Y-%m-%d}",
        "starts_at_1": f"{NOON:%H:%M:%S}",
        "ends_at_0": "",
        "ends_at_1": "",
        "quotas-TOTAL_FORMS": "0",
        "quotas-INITIAL_FORMS": "0",
    } | changes


def quota_fields(included: str = "500") -> dict[str, str]:
    return {
        "quotas-TOTAL_FORMS": "1",
        "quotas-0-meter": str(Meter.objects.get().pk),
        "quotas-0-included": included,
        "quotas-0-overage": "block",
    }


def act(client: Any, action: str, *overrides: PlanOverride) -> Any:
    chosen = [str(each.pk) for each in overrides]
    return client.post(LIST, {"action": action, "_selected_action": chosen}, follow=True)


def test_what_staff_give_reaches_the_gate_by_the_next_call_and_names_who_gave_it(
    admin_client, admin_user, organization, api_key
):
    assert admit(api_key.secret).quota == 100

    assert admin_client.post(ADD, fields(organization, **quota_fields())).status_code == 302

    assert admit(api_key.secret).quota == 500
    assert PlanOverride.objects.get().author == admin_user


def test_another_rate_brings_its_own_burst(admin_client, organization):
    changes = {"changes_rate": "on", "rate_per_minute": "50", "burst": "7"}

    assert admin_client.post(ADD, fields(organization, **changes)).status_code == 302

    entitlement = Entitlement.objects.get(organization=organization)
    assert (entitlement.rate_per_minute, entitlement.burst) == (50, 7)
    assert "50 calls a minute, 7 at once" in admin_client.get(LIST).text


def test_who_changes_it_later_is_not_its_author(admin_client, organization, plans):
    override = give(organization, plan=plans.team)
    page = reverse("admin:billing_planoverride_change", args=[override.pk])
    assert admin_client.post(page, fields(organization, plan=plans.pro.pk)).status_code == 302

    override.refresh_from_db()
    assert (override.plan, override.author) == (plans.pro, None)
    assert limits(organization)[0] == "pro"
    history = admin_client.get(reverse("admin:billing_planoverride_history", args=[override.pk])).text
    assert "Changed" in history


def test_an_override_is_not_handed_on_to_another_organization(admin_client, organization, outsider, plans):
    override = give(organization, plan=plans.team)
    rival = Organization.objects.get(name="Rival")

    page = reverse("admin:billing_planoverride_change", args=[override.pk])
    admin_client.post(page, fields(rival, plan=plans.team.pk))

    override.refresh_from_db()
    assert override.organization == organization


def test_end_now_ends_it_with_the_next_call(admin_client, organization, api_key, plans):
    override = give(organization, quota=500, starts_at=NOON - DAY)
    assert admit(api_key.secret).quota == 500

    page = act(admin_client, "end_now", override)

    assert "1 ended." in page.text
    assert admit(api_key.secret).quota == 100
    override.refresh_from_db()
    assert override.ends_at == NOON
    history = admin_client.get(reverse("admin:billing_planoverride_history", args=[override.pk])).text
    assert "Ended." in history


def test_end_now_leaves_what_is_over_and_what_has_not_begun(admin_client, organization):
    over = give(organization, quota=1, starts_at=NOON - 3 * DAY, ends_at=NOON - DAY)
    later = give(organization, quota=2, starts_at=NOON + DAY)

    page = act(admin_client, "end_now", over, later)

    assert "2 not in force now" in page.text
    over.refresh_from_db()
    later.refresh_from_db()
    assert (over.ends_at, later.ends_at) == (NOON - DAY, None)


def test_what_has_begun_is_kept_and_what_has_not_can_be_deleted(admin_client, organization):
    begun, later = give(organization, quota=1), give(organization, quota=2, starts_at=NOON + DAY)

    def delete(override: PlanOverride) -> int:
        page = reverse("admin:billing_planoverride_delete", args=[override.pk])
        return int(admin_client.post(page, {"post": "yes"}).status_code)

    assert (delete(begun), delete(later)) == (403, 302)
    assert list(PlanOverride.objects.all()) == [begun]
    assert Entitlement.objects.get().valid_until > NOON + DAY


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"reason": ""}, "This field is required."),
        ({}, "It gives nothing yet: choose a plan, another rate or another quota."),
        ({"rate_per_minute": "5"}, "Tick “another rate” to give the rate that was filled in."),
        ({"burst": "5"}, "Tick “another rate” to give the burst that was filled in."),
        (
            {"changes_rate": "on", "rate_per_minute": "5", "burst": "6"},
            "A burst is at most the 5 calls that a minute allows.",
        ),
        (
            {"changes_rate": "on", "burst": "6"},
            "A burst needs calls a minute: without a rate any number may come at once.",
        ),
        ({"changes_rate": "on", "rate_per_minute": "0"}, "Use 1 or more, or leave it empty for unlimited"),
        (
            {"changes_rate": "on", "ends_at_0": "2027-05-11", "ends_at_1": "12:00:00"},
            "That is over already.",
        ),
        (
            {
                "changes_rate": "on",
                "starts_at_0": "2027-07-01",
                "ends_at_0": "2027-06-01",
                "ends_at_1": "12:00:00",
            },
            "An override must end after it starts.",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_sentence(admin_client, organization, changes, sentence):
    page = admin_client.post(ADD, fields(organization, **changes))

    assert page.status_code == 200
    assert sentence in page.text
    assert not PlanOverride.objects.exists()


def test_a_quota_of_zero_is_refused(admin_client, organization):
    page = admin_client.post(ADD, fields(organization, **quota_fields("0")))

    assert "Use 1 or more, or leave it empty for unlimited" in page.text
    assert not PlanOverride.objects.exists()


def test_unlimited_units_bill_nothing(admin_client, organization):
    bills = quota_fields("") | {"quotas-0-overage": "bill"}

    page = admin_client.post(ADD, fields(organization, **bills))

    assert "Unlimited units leave nothing to bill: say how many are included." in page.text
    assert not PlanOverride.objects.exists()


def test_billing_what_goes_on_no_invoice_is_refused_and_the_row_named(
    admin_client, sandbox, organization, plans
):
    bills = fields(organization, **quota_fields() | {"quotas-0-overage": "bill"})

    page = admin_client.post(ADD, bills)
    assert "Requests: further calls would be let in and be on no invoice" in unescape(page.text)
    assert "the customer has no subscription and so no price for them. Refuse them" in unescape(page.text)

    subscribe(sandbox, organization, plan=plans.pro)
    tokens = Meter.objects.create(slug="tokens", name="Tokens", unit="token")
    page = admin_client.post(ADD, bills | {"quotas-0-meter": str(tokens.pk)})
    assert "Tokens: further tokens would be let in and be on no invoice" in unescape(page.text)
    assert "the customer pays for a plan with no price for them. Refuse them" in unescape(page.text)
    assert not PlanOverride.objects.exists()


def test_whoever_pays_for_further_units_may_be_given_others_that_are_billed(admin_client, acme, plans):
    acme.bill_overage(plans.pro, included=100, cents="2")
    acme.subscribe(plans.pro)
    bills = fields(acme.organization, **quota_fields() | {"quotas-0-overage": "bill"})
    bills |= {"starts_at_0": f"{clock.now():%Y-%m-%d}", "starts_at_1": f"{clock.now():%H:%M:%S}"}

    assert admin_client.post(ADD, bills).status_code == 302

    assert acme.entitlement().quotas["requests"] == {"included": 500, "overage": "bill"}


@pytest.mark.parametrize(("included", "is_told"), [("500", True), ("", True), ("100", False)])
def test_staff_are_told_where_the_customer_s_price_goes_on_charging_what_they_include(
    admin_client, acme, plans, included, is_told
):
    acme.bill_overage(plans.pro, included=100, cents="2")
    acme.subscribe(plans.pro)
    given = fields(acme.organization, **quota_fields(included))
    given |= {"starts_at_0": f"{clock.now():%Y-%m-%d}", "starts_at_1": f"{clock.now():%H:%M:%S}"}

    page = unescape(admin_client.post(ADD, given, follow=True).text)

    assert ("beyond 100 calls a month, each costs what it did" in page) == is_told


def test_what_is_over_may_bill_what_is_billed_no_more(admin_client, organization):
    over = give(organization, quota=500, starts_at=NOON - 3 * DAY, ends_at=NOON - DAY)
    over.quotas.update(overage=PlanQuota.Overage.BILL)
    row = quota_fields() | {
        "quotas-INITIAL_FORMS": "1",
        "quotas-0-id": str(over.quotas.get().pk),
        "quotas-0-override": str(over.pk),
        "quotas-0-overage": "bill",
    }
    times = {
        f"{name}_{part}": f"{getattr(over, name):{form}}"
        for name in ("starts_at", "ends_at")
        for part, form in enumerate(("%Y-%m-%d", "%H:%M:%S"))
    }
    page = reverse("admin:billing_planoverride_change", args=[over.pk])

    assert (
        admin_client.post(page, fields(organization, reason="It rained", **row, **times)).status_code == 302
    )


def test_overrides_from_before_that_bill_beyond_unlimited_units_are_made_to_block(organization):
    migration = import_module("billing.migrations.0008_unlimited_overrides_bill_nothing").Migration
    update, constraint = migration.operations[0].sql, migration.operations[1].constraint
    with connection.schema_editor(atomic=False) as editor:
        editor.remove_constraint(QuotaOverride, constraint)
    endless, limited = give(organization, quota=None), give(organization, quota=500)
    QuotaOverride.objects.update(overage=PlanQuota.Overage.BILL)

    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(update)
    with connection.schema_editor(atomic=False) as editor:
        editor.add_constraint(QuotaOverride, constraint)

    assert endless.quotas.get().overage == PlanQuota.Overage.BLOCK
    assert limited.quotas.get().overage == PlanQuota.Overage.BILL


def test_the_list_says_what_each_gives_and_finds_those_in_force(admin_client, organization, plans):
    give(organization, plan=plans.team, quota=None)
    give(organization, changes_rate=True, rate_per_minute=5, starts_at=NOON + DAY)

    assert "Team; unlimited calls" in admin_client.get(LIST).text
    assert "5 calls a minute" in admin_client.get(LIST).text
    found = {
        time: admin_client.get(LIST, {"time": time}).context["cl"].result_count
        for time in ("now", "later", "over")
    }
    assert found == {"now": 1, "later": 1, "over": 0}


def test_who_may_not_change_overrides_neither_gives_nor_ends_any(organization):
    override = give(organization, quota=500)
    client = staff("view_planoverride")

    assert client.get(LIST).status_code == 200
    assert client.post(ADD, fields(organization, **quota_fields())).status_code == 403
    act(client, "end_now", override)

    override.refresh_from_db()
    assert override.ends_at is None
    assert PlanOverride.objects.count() == 1


def test_who_may_change_them_needs_no_other_permission(organization, plans):
    client = staff("view_planoverride", "add_planoverride", "change_planoverride", "view_organization")

    assert client.post(ADD, fields(organization, plan=plans.team.pk)).status_code == 302
    assert limits(organization)[0] == "team"


@pytest.mark.parametrize("subscribes", [False, True])
def test_staff_are_told_where_a_plan_that_they_give_cannot_be_billed(admin_client, acme, plans, subscribes):
    acme.bill_overage(plans.pro, included=100, cents="2")
    if subscribes:
        acme.subscribe(plans.pro)
    given = fields(acme.organization, plan=plans.pro.pk)
    given |= {"starts_at_0": f"{clock.now():%Y-%m-%d}", "starts_at_1": f"{clock.now():%H:%M:%S}"}

    page = unescape(admin_client.post(ADD, given, follow=True).text)

    refused = (
        "Further calls than the included ones are refused: Acme has no subscription with a price for them"
    )
    assert (refused in page) != subscribes
    assert acme.entitlement().quotas["requests"]["overage"] == ("bill" if subscribes else "block")
