from io import StringIO

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from djstripe import models as djstripe

from billing.models import Meter, Plan, PlanPrice
from billing.seeds import seed_plans
from billing.stripe.catalog import publish_plan
from billing.stripe.client import get_client
from billing.stripe.webhook_endpoints import ENABLED_EVENTS, ensure_webhook_endpoint

pytestmark = pytest.mark.django_db


def set_up() -> str:
    out = StringIO()
    call_command("stripe_setup", stdout=out)
    return out.getvalue()


def test_set_up_makes_endpoint_meter_products_and_prices(sandbox, plans):
    set_up()

    assert [m["event_name"] for m in sandbox.every("billing.meter")] == ["tollgate_requests"]
    assert {p["id"] for p in sandbox.every("product")} == {
        "tollgate_pro",
        "tollgate_team",
        "tollgate_enterprise",
        "tollgate_meter_requests",
    }
    flat = {p["lookup_key"]: p["unit_amount"] for p in sandbox.every("price") if not p["recurring"]["meter"]}
    assert flat == {
        "tollgate_pro_month_usd": 2900,
        "tollgate_team_month_usd": 9900,
        "tollgate_enterprise_month_usd": 49900,
    }
    assert PlanPrice.objects.filter(stripe_price=None).count() == 0
    assert Plan.objects.filter(stripe_product=None).get() == plans.free


def test_set_up_again_changes_nothing_at_stripe(sandbox, plans):
    set_up()
    before = [
        (kind, list(sandbox.every(kind)))
        for kind in ("webhook_endpoint", "billing.meter", "product", "price")
    ]

    assert "created" not in set_up()
    assert before == [
        (kind, list(sandbox.every(kind)))
        for kind in ("webhook_endpoint", "billing.meter", "product", "price")
    ]


def test_a_new_amount_makes_a_new_price_that_takes_over_the_lookup_key(sandbox, plans):
    set_up()
    price = PlanPrice.objects.get(plan=plans.pro, meter=None)
    old = price.stripe_price_id
    price.unit_amount = 3900
    price.save()

    assert publish_plan(plans.pro) == ["tollgate_pro_month_usd"]

    price.refresh_from_db()
    prices = {p["id"]: p for p in sandbox.every("price")}
    assert price.stripe_price_id != old
    assert (prices[old]["unit_amount"], prices[old]["lookup_key"]) == (2900, None)
    assert prices[price.stripe_price_id]["lookup_key"] == "tollgate_pro_month_usd"


def test_a_renamed_plan_renames_its_product(sandbox, plans):
    set_up()
    plans.pro.name = "Professional"
    plans.pro.save()
    publish_plan(plans.pro)

    assert {p["name"] for p in sandbox.every("product")} >= {"Professional"}
    assert djstripe.Product.objects.get(id="tollgate_pro").stripe_data["name"] == "Professional"


def test_set_up_without_stripe_says_so_in_a_sentence(sandbox, plans):
    sandbox.faults.add("timeout_before")
    with pytest.raises(CommandError, match="cannot be reached"):
        set_up()


def test_set_up_with_a_key_that_stripe_refuses_names_the_variable(sandbox, plans, settings):
    settings.STRIPE_SECRET_KEY = "sk_live_notForThisSandbox0123456789"
    get_client.cache_clear()

    with pytest.raises(CommandError, match="does not accept STRIPE_SECRET_KEY"):
        set_up()


def test_the_endpoint_asks_for_our_events_in_our_version(sandbox, webhook_endpoint):
    (stored,) = sandbox.every("webhook_endpoint")

    assert stored["enabled_events"] == ENABLED_EVENTS
    assert stored["url"].endswith(f"/stripe/webhook/{webhook_endpoint.djstripe_uuid}/")
    assert webhook_endpoint.secret.startswith("whsec_")


def test_an_endpoint_whose_secret_is_not_held_is_replaced(sandbox, webhook_endpoint):
    djstripe.WebhookEndpoint.objects.update(secret="")

    endpoint, is_new = ensure_webhook_endpoint()

    assert is_new
    assert [e["id"] for e in sandbox.every("webhook_endpoint")] == [endpoint.id]


def test_a_disabled_endpoint_is_enabled_again(sandbox, webhook_endpoint):
    get_client().v1.webhook_endpoints.update(webhook_endpoint.id, {"disabled": True})

    ensure_webhook_endpoint()

    (stored,) = sandbox.every("webhook_endpoint")
    assert stored["status"] == "enabled"


def test_seeding_again_leaves_what_staff_changed(plans):
    Plan.objects.filter(slug="pro").update(name="Professional", rate_per_minute=150)
    Plan.objects.filter(slug="team").delete()

    assert seed_plans() == []
    assert Plan.objects.get(slug="pro").rate_per_minute == 150
    assert not Plan.objects.filter(slug="team").exists()
    assert Meter.objects.count() == 1
