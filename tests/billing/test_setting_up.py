"""The set-up at Stripe: done once, repeated without harm, and finished where it broke off."""

from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from djstripe import models as djstripe

from billing.errors import StripeUnavailable
from billing.models import BillingSettings, Plan, SetupRun
from billing.setting_up import set_up
from billing.stripe import keys as stripe_keys
from billing.stripe.client import get_client
from sandbox import keys
from sandbox.permissions import RESOURCES
from tests.billing.cast import subscribe
from tests.billing.faults import every_fault

pytestmark = pytest.mark.django_db

KINDS_AT_STRIPE = (
    "webhook_endpoint",
    "v2.core.event_destination",
    "billing.meter",
    "product",
    "price",
    "billing_portal.configuration",
)
HEAD_OFFICE: Any = {
    "head_office": {
        "address": {"country": "DE", "city": "Berlin", "line1": "Allee 1", "postal_code": "10115"}
    },
    "defaults": {"tax_behavior": "exclusive", "tax_code": "txcd_10103001"},
}
RESTRICTED = "rk_test_onlyForTests0123456789ab"


@pytest.fixture
def with_key(settings):
    """Go by another secret key, as after a restart."""

    def change(key: str) -> None:
        settings.STRIPE_SECRET_KEY = settings.STRIPE_TEST_SECRET_KEY = key
        get_client.cache_clear()

    return change


def at_stripe(sandbox: Any) -> dict[str, list[Any]]:
    return {kind: list(sandbox.every(kind)) for kind in KINDS_AT_STRIPE}


def outcomes(run: SetupRun) -> dict[str, str]:
    return {step["name"]: step["outcome"] for step in run.steps}


def detail(run: SetupRun, name: str) -> str:
    return next(step["detail"] for step in run.steps if step["name"] == name)


def test_the_first_run_makes_what_is_missing_and_says_so(sandbox, plans):
    run = set_up()

    assert outcomes(run) == {
        "key": "unchanged",
        "webhooks": "changed",
        "thin": "changed",
        "meters": "changed",
        "plans": "changed",
        "portal": "changed",
        "tax": "unchanged",
    }
    assert not run.has_failed
    assert sandbox.account_id in detail(run, "key")
    assert {kind: len(rows) for kind, rows in at_stripe(sandbox).items()} == {
        "webhook_endpoint": 1,
        "v2.core.event_destination": 1,
        "billing.meter": 1,
        "product": 4,
        "price": 6,
        "billing_portal.configuration": 1,
    }


def test_the_second_run_changes_nothing_and_says_so(sandbox, plans):
    set_up()
    before = at_stripe(sandbox)

    out = StringIO()
    call_command("stripe_setup", stdout=out)

    assert at_stripe(sandbox) == before
    assert "Nothing had to be changed." in out.getvalue()
    assert SetupRun.objects.first().changed_nothing


@pytest.mark.long
@pytest.mark.exhaustive
def test_a_mishap_at_any_call_is_mended_by_the_next_run_and_leaves_nothing_twice(sandbox, plans):
    Plan.objects.filter(slug__in=["team", "enterprise"]).delete()

    def flow():
        # A run ends by saying what failed, whatever that was.
        run = set_up()
        if run.has_failed:
            raise StripeUnavailable(str(outcomes(run)))
        return set(outcomes(run).values()) <= {"changed", "unchanged"}

    def look():
        assert set_up().changed_nothing
        return {kind: len(rows) for kind, rows in at_stripe(sandbox).items()}

    calls = every_fault(sandbox, flow=flow, look=look)

    assert len(calls) > 20


def test_a_key_that_stripe_has_let_expire_stops_the_run_with_its_name(sandbox, plans, settings):
    keys.expire(sandbox, settings.STRIPE_SECRET_KEY)

    run = set_up()

    assert outcomes(run) == {"key": "failed"}
    assert "does not accept STRIPE_SECRET_KEY" in detail(run, "key")
    assert settings.STRIPE_SECRET_KEY not in str(run.steps)


def test_a_stripe_that_does_not_answer_ends_the_run_at_once(sandbox, plans):
    sandbox.faults.add("timeout_before", path="/v2/*")

    run = set_up()

    assert outcomes(run) == {"key": "unchanged", "webhooks": "changed", "thin": "failed"}
    assert "run it again" in detail(run, "thin")


def test_a_step_that_stripe_refuses_does_not_keep_the_others_from_being_done(sandbox, plans, with_key):
    with_key(RESTRICTED)
    everything = {f"{name}_write" for name in RESOURCES.values()}
    keys.restrict(sandbox, RESTRICTED, to=sorted(everything - {"webhook_write"}))

    run = set_up()

    assert outcomes(run) == {
        "key": "attention",
        "webhooks": "failed",
        "thin": "failed",
        "meters": "changed",
        "plans": "changed",
        "portal": "changed",
        "tax": "unchanged",
    }
    assert "lacks the permission webhook_read" in detail(run, "webhooks")


def test_a_restricted_key_is_told_which_permissions_it_lacks(sandbox, plans, with_key):
    with_key(RESTRICTED)
    keys.restrict(sandbox, RESTRICTED, to=["customer_write", "product_read", "plan_write", "event_read"])
    before = at_stripe(sandbox)

    report = stripe_keys.inspect_key()

    assert report.account_id == sandbox.account_id
    assert report.name == ""
    assert {"webhook_read", "webhook_write", "product_write", "subscription_read"} <= set(report.missing)
    assert not {"customer_read", "customer_write", "product_read", "plan_write"} & set(report.missing)
    # Trying whether it may write has written nothing.
    assert at_stripe(sandbox) == before
    assert list(sandbox.every("customer")) == []


def test_a_restricted_key_with_all_it_needs_is_as_good_as_a_secret_one(
    sandbox, plans, with_key, organization
):
    with_key(RESTRICTED)
    allowed = {f"{name}_write" for name in RESOURCES.values()} - {"accounts_kyc_basic_write"}
    keys.restrict(sandbox, RESTRICTED, to=sorted(allowed))

    run = set_up()

    assert not run.has_failed
    assert "Restricted key" in detail(run, "key")
    # dj-stripe would ask for the account, which this key must not, and every copy into the mirror would fail.
    assert djstripe.APIKey.objects.get().djstripe_owner_account.id == sandbox.account_id
    assert subscribe(sandbox, organization, plan=plans.pro).status == "active"


def test_the_permissions_that_the_guide_lists_are_enough(sandbox, plans, with_key):
    with_key(RESTRICTED)
    written = "customer product plan subscription invoice checkout_session customer_portal billing_meter"
    written += " billing_meter_event webhook"
    read = "payment_method payment_intent setup_intent charge coupon promotion_code event tax_settings"
    permissions = [f"{name}_write" for name in written.split()] + [f"{name}_read" for name in read.split()]
    keys.restrict(sandbox, RESTRICTED, to=permissions)

    assert stripe_keys.inspect_key().missing == ()
    assert not set_up().has_failed


def long_key(prefix: str, account: str) -> str:
    return f"{prefix}5{account.removeprefix('acct_')}{'x' * 80}"


def test_a_publishable_key_of_another_account_is_refused(sandbox, plans, with_key, settings):
    with_key(long_key("sk_test_", sandbox.account_id))
    settings.STRIPE_PUBLISHABLE_KEY = long_key("pk_test_", "acct_1SomebodyElses0")

    run = set_up()

    assert outcomes(run) == {"key": "failed"}
    assert "STRIPE_PUBLISHABLE_KEY belongs to the account acct_1SomebodyElses0" in detail(run, "key")


@pytest.mark.parametrize("publishable", ["", "pk_test_0123456789abcdefghijklmn", "its own"])
def test_a_publishable_key_that_fits_or_cannot_be_told_is_let_be(
    sandbox, plans, with_key, settings, publishable
):
    with_key(long_key("sk_test_", sandbox.account_id))
    own = long_key("pk_test_", sandbox.account_id)
    settings.STRIPE_PUBLISHABLE_KEY = own if publishable == "its own" else publishable

    assert outcomes(set_up())["key"] == "unchanged"


def test_a_database_with_another_accounts_customers_is_refused(sandbox, plans, organization):
    subscribe(sandbox, organization, plan=plans.pro)
    other = djstripe.Account.objects.create(id="acct_1SomebodyElses0")
    djstripe.Customer.objects.update(djstripe_owner_account=other)

    run = set_up()

    assert outcomes(run) == {"key": "failed"}
    assert "1 customers of another Stripe account" in detail(run, "key")


def test_a_plan_that_stripe_refuses_does_not_keep_the_others_from_being_published(sandbox, plans):
    plans.team.prices.filter(meter=None).update(currency="xxx")

    run = set_up()

    assert outcomes(run)["plans"] == "failed"
    assert "team" in detail(run, "plans")
    assert outcomes(run)["portal"] == "changed"
    assert {p["id"] for p in sandbox.every("product")} >= {"tollgate_pro", "tollgate_enterprise"}


def test_the_portal_lets_customers_do_what_tollgate_can_follow_and_no_more(sandbox, plans, settings):
    set_up()

    (configuration,) = sandbox.every("billing_portal.configuration")
    features = configuration["features"]
    assert {name for name, feature in features.items() if feature["enabled"]} == {
        "customer_update",
        "invoice_history",
        "payment_method_update",
        "subscription_cancel",
    }
    assert features["subscription_cancel"]["mode"] == "at_period_end"
    assert set(features["customer_update"]["allowed_updates"]) == {"address", "name", "tax_id"}
    assert configuration["default_return_url"] == f"{settings.FRONTEND_URL}/dashboard/billing/"
    assert BillingSettings.load().portal_configuration_id == configuration["id"]


def test_a_portal_configuration_that_somebody_changed_is_brought_back(sandbox, plans):
    set_up()
    kept = BillingSettings.load().portal_configuration_id
    get_client().v1.billing_portal.configurations.update(
        kept, {"features": {"subscription_cancel": {"enabled": True, "mode": "immediately"}}}
    )

    run = set_up()

    (configuration,) = sandbox.every("billing_portal.configuration")
    assert configuration["features"]["subscription_cancel"]["mode"] == "at_period_end"
    assert "brought it up to date" in detail(run, "portal")


def test_a_portal_configuration_whose_id_is_lost_is_found_by_its_mark(sandbox, plans):
    set_up()
    kept = BillingSettings.load().portal_configuration_id
    BillingSettings.objects.update(portal_configuration_id="bpc_lost")

    run = set_up()

    assert BillingSettings.load().portal_configuration_id == kept
    assert "found it again" in detail(run, "portal")


def test_a_portal_configuration_that_was_deactivated_gets_a_successor(sandbox, plans):
    set_up()
    kept = BillingSettings.load().portal_configuration_id
    get_client().v1.billing_portal.configurations.update(kept, {"active": False})

    set_up()

    assert BillingSettings.load().portal_configuration_id != kept
    assert [c["active"] for c in sandbox.every("billing_portal.configuration")] == [False, True]


def test_automatic_tax_that_stripe_is_not_ready_for_is_named_and_can_be_gone_without(sandbox, plans):
    BillingSettings.objects.update_or_create(pk=1, defaults={"automatic_tax": True})

    with pytest.raises(CommandError, match="the address of your head office"):
        call_command("stripe_setup", stdout=StringIO())
    call_command("stripe_setup", "--without-tax", stdout=StringIO())

    assert not BillingSettings.load().automatic_tax


def test_automatic_tax_without_a_registration_asks_for_attention(sandbox, plans):
    BillingSettings.objects.update_or_create(pk=1, defaults={"automatic_tax": True})
    get_client().v1.tax.settings.update(HEAD_OFFICE)
    assert outcomes(set_up())["tax"] == "attention"

    registration: Any = {
        "country": "DE",
        "country_options": {"de": {"type": "standard", "standard": {"place_of_supply_scheme": "standard"}}},
        "active_from": "now",
    }
    get_client().v1.tax.registrations.create(registration)

    assert outcomes(set_up())["tax"] == "unchanged"
