"""The set-up at Stripe: done once, repeated without harm, and finished where it broke off."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import StringIO
from threading import Barrier
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection, transaction
from djstripe import models as djstripe

from billing.models import BillingSettings, EventDestination, Plan, SetupRun
from billing.setting_up import set_up
from billing.stripe import keys as stripe_keys
from billing.stripe.client import get_client
from billing.stripe.event_destinations import settle_event_destination
from billing.stripe.portal_configuration import settle_portal_configuration
from billing.stripe.webhook_endpoints import ENABLED_EVENTS, settle_webhook_endpoint, suggested_address
from sandbox import Sandbox, keys
from sandbox.permissions import RESOURCES
from tests.billing.cast import subscribe
from tests.billing.mishaps import KINDS, calls_of, meet

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


@pytest.mark.parametrize("kind", KINDS)
def test_a_mishap_at_any_call_is_mended_by_the_next_run_and_leaves_nothing_twice(
    sandbox, recorder, plans, kind
):
    Plan.objects.filter(slug__in=["team", "enterprise"]).delete()
    with untouched():
        calls = calls_of(set_up, sandbox, recorder)
        whole = {kind: len(rows) for kind, rows in at_stripe(sandbox).items()}
    assert calls > 20
    for at in range(calls):
        with untouched():
            stripe_anew = Sandbox()
            meet(stripe_anew, recorder, kind=kind, at=at)
            set_up()

            meet(stripe_anew, recorder)
            mended = set_up()

            assert set(outcomes(mended).values()) <= {"changed", "unchanged"}, (at, mended.steps)
            assert {kind: len(rows) for kind, rows in at_stripe(stripe_anew).items()} == whole, at
            assert set_up().changed_nothing, at


@contextmanager
def untouched() -> Iterator[None]:
    """Undo at the end what the block did to the database."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


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


def test_the_destination_asks_for_meter_errors_and_is_enabled_again(sandbox, plans):
    set_up()
    (made,) = sandbox.every("v2.core.event_destination")
    assert made["enabled_events"] == [
        "v1.billing.meter.error_report_triggered",
        "v1.billing.meter.no_meter_found",
    ]
    destinations = get_client().v2.core.event_destinations
    destinations.disable(made["id"])
    destinations.update(made["id"], {"enabled_events": ["v1.billing.meter.no_meter_found"]})

    run = set_up()

    (mended,) = sandbox.every("v2.core.event_destination")
    assert (mended["id"], mended["status"], mended["enabled_events"]) == (
        made["id"],
        "enabled",
        made["enabled_events"],
    )
    assert outcomes(run)["thin"] == "changed"


def test_a_destination_whose_secret_is_not_held_is_replaced(sandbox, plans):
    set_up()
    EventDestination.objects.all().delete()

    set_up()

    (made,) = sandbox.every("v2.core.event_destination")
    assert made["id"] == EventDestination.objects.get().id


SOME_UUID = "00000000-0000-4000-8000-000000000001"
SECRET = "whsec_thatTheOperatorGave0123456789"


def own_endpoint(url: str, **params: Any) -> Any:
    """What an operator makes on Stripe's dashboard."""
    return get_client().v1.webhook_endpoints.create(
        {"url": url, "enabled_events": ["invoice.paid"], "api_version": "2026-05-27.dahlia", **params}
    )


def test_an_endpoint_of_the_operators_own_is_used_with_the_secret_from_the_environment(
    sandbox, plans, settings
):
    settings.STRIPE_WEBHOOK_SECRET = SECRET
    made = own_endpoint(suggested_address())

    run = set_up()

    row = djstripe.WebhookEndpoint.objects.get()
    assert (row.id, row.secret) == (made.id, SECRET)
    assert made.url.endswith(f"/{row.djstripe_uuid}/")
    (stored,) = sandbox.every("webhook_endpoint")
    assert stored["enabled_events"] == ENABLED_EVENTS
    assert SECRET not in str(run.steps)
    assert outcomes(set_up())["webhooks"] == "unchanged"


def test_a_new_secret_in_the_environment_takes_the_old_ones_place(sandbox, plans, settings):
    settings.STRIPE_WEBHOOK_SECRET = SECRET
    own_endpoint(suggested_address())
    set_up()
    settings.STRIPE_WEBHOOK_SECRET = SECRET + "new"

    set_up()

    assert djstripe.WebhookEndpoint.objects.get().secret == SECRET + "new"


def test_the_secret_of_tollgates_own_endpoint_may_come_from_the_environment_after_a_roll(
    sandbox, plans, settings
):
    set_up()
    kept = djstripe.WebhookEndpoint.objects.get()
    settings.STRIPE_WEBHOOK_SECRET = SECRET

    set_up()

    row = djstripe.WebhookEndpoint.objects.get()
    assert (row.id, row.djstripe_uuid, row.secret) == (kept.id, kept.djstripe_uuid, SECRET)


def test_tollgates_own_endpoint_gives_way_to_the_operators(sandbox, plans, settings):
    set_up()
    given_way = djstripe.WebhookEndpoint.objects.get().id
    settings.STRIPE_WEBHOOK_SECRET = SECRET
    made = own_endpoint(suggested_address())

    run = set_up()

    assert f"replaced {given_way}" in detail(run, "webhooks")
    assert djstripe.WebhookEndpoint.objects.get(secret=SECRET).id == made.id


@pytest.mark.parametrize(
    ("paths", "said"),
    [([], "no endpoint"), ([f"{SOME_UUID}/"] * 2, "several endpoints"), (["by-hand/"], "no address of")],
)
def test_an_endpoint_of_the_operators_that_cannot_work_is_refused_with_a_sentence(
    sandbox, plans, settings, paths, said
):
    settings.STRIPE_WEBHOOK_SECRET = SECRET
    for path in paths:
        own_endpoint(f"{settings.API_BASE_URL}/stripe/webhook/{path}")

    run = set_up()

    assert outcomes(run)["webhooks"] == "failed"
    assert said in detail(run, "webhooks")
    assert suggested_address() in detail(run, "webhooks")
    assert outcomes(run)["portal"] == "changed"


def test_an_endpoint_made_for_another_version_is_replaced_and_kept_for_its_events(sandbox, plans):
    set_up()
    old = djstripe.WebhookEndpoint.objects.get()
    with sandbox.change():
        row = sandbox.get("webhook_endpoint", old.id)
        sandbox.put({**row, "api_version": "2026-03-25.dahlia"})

    run = set_up()

    assert "made for another API version" in detail(run, "webhooks")
    versions = {e["id"]: e["api_version"] for e in sandbox.every("webhook_endpoint")}
    assert len(versions) == 1 + (old.id in versions)
    assert "2026-05-27.dahlia" in versions.values()


def test_an_endpoint_of_the_operators_for_another_version_is_refused_with_a_sentence(
    sandbox, plans, settings
):
    settings.STRIPE_WEBHOOK_SECRET = SECRET
    own_endpoint(suggested_address(), api_version="2026-03-25.dahlia")

    assert "Stripe's API version 2026-03-25.dahlia" in detail(set_up(), "webhooks")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("settle", "kind"),
    [
        (settle_webhook_endpoint, "webhook_endpoint"),
        (settle_event_destination, "v2.core.event_destination"),
        (settle_portal_configuration, "billing_portal.configuration"),
    ],
)
def test_set_ups_at_the_same_time_make_one_of_each(sandbox, settle, kind):
    together = Barrier(4)

    def run() -> str:
        try:
            together.wait(10)
            return settle().id
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        found = {future.result() for future in [pool.submit(run) for _ in range(4)]}

    assert found == {row["id"] for row in sandbox.every(kind)}
    assert len(found) == 1
