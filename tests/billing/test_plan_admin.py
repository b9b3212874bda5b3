"""The plan's pages in the back office: Publish, Adopt, Older prices, deleting, and a catalogue from nothing."""

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client, TestCase
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from djstripe import models as djstripe

from accounts.models import Organization, User
from billing.models import Entitlement, Meter, Plan, PlanOverride, PriceMove
from billing.stripe.catalog import preview_publication, publish
from billing.stripe.client import get_client
from billing.tasks import begin_price_move
from sandbox.state import Sandbox
from tests.billing.cast import subscribe
from tests.billing.catalogue import at_stripe, fee_of, make_price, set_fee, subscribe_at_stripe, writes
from tests.billing.plan_form import add_row, delete_row, form_of, page, rows

pytestmark = pytest.mark.django_db


def told(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]


def test_publishing_is_seen_first_then_done_and_kept_in_the_history(admin_client, plans, sandbox):
    publish([plans.pro])
    set_fee(plans.pro, 3900)
    seen = admin_client.get(page(plans.pro, "publish"))
    assert "Create the price Pro, $39 a month, under the lookup key tollgate_pro_month_usd." in seen.text
    digest = seen.context["publication"].digest

    done = admin_client.post(page(plans.pro, "publish"), {"digest": digest}, follow=True)

    assert "Published: 1 change, as listed in the history." in told(done)
    assert at_stripe(sandbox, "tollgate_pro_month_usd")["unit_amount"] == 3900
    assert "Create the price Pro, $39 a month" in LogEntry.objects.latest("pk").change_message
    assert "there is nothing to publish" in admin_client.get(page(plans.pro, "publish")).text


def test_a_list_that_has_changed_is_shown_anew_and_not_done(admin_client, plans, sandbox):
    digest = preview_publication([plans.pro]).digest
    set_fee(plans.pro, 3900)

    response = admin_client.post(page(plans.pro, "publish"), {"digest": digest})

    assert "Stripe or the plan has changed since you looked: this is the list now." in response.text
    assert "$39 a month" in response.text
    assert writes(sandbox) == 0


def test_pressing_publish_twice_says_that_it_was_done(admin_client, plans, sandbox):
    digest = preview_publication([plans.pro]).digest
    admin_client.post(page(plans.pro, "publish"), {"digest": digest})
    written = writes(sandbox)

    response = admin_client.post(page(plans.pro, "publish"), {"digest": digest}, follow=True)

    assert "It was published already: nothing is left to do." in told(response)
    assert writes(sandbox) == written


def test_publish_all_publishes_every_plan_and_meter(admin_client, plans, sandbox):
    Meter.objects.create(slug="tokens", name="Tokens", unit="token")
    where = reverse("admin:billing_plan_publish_all")
    digest = admin_client.get(where).context["publication"].digest

    admin_client.post(where, {"digest": digest})

    assert {meter["event_name"] for meter in sandbox.every("billing.meter")} == {
        "tollgate_requests",
        "tollgate_tokens",
    }
    assert {product["id"] for product in sandbox.every("product")} >= {
        "tollgate_pro",
        "tollgate_team",
        "tollgate_enterprise",
    }
    assert {entry.object_repr for entry in LogEntry.objects.all()} == {
        *("Pro", "Team", "Enterprise"),
        *("Requests", "Tokens"),
    }


def test_with_stripe_out_of_reach_a_sentence_says_so_and_nothing_is_lost(
    admin_client, plans, sandbox, monkeypatch
):
    monkeypatch.setattr("billing.stripe.client.RETRIES", 0)
    get_client.cache_clear()
    digest = preview_publication([plans.pro]).digest
    sandbox.faults.add("timeout_after", method="POST", path="/v1/prices", times=1)

    cut_off = admin_client.post(page(plans.pro, "publish"), {"digest": digest})
    sandbox.faults.add("timeout_before")
    unreachable = admin_client.get(page(plans.pro, "publish"))
    sandbox.faults.clear()
    again = admin_client.get(page(plans.pro, "publish"))

    assert cut_off.status_code == 302
    assert (unreachable.status_code, again.status_code) == (503, 200)
    assert "Stripe cannot be reached right now. Nothing is lost: try again in a moment." in unreachable.text
    assert "Note the price Pro, $29 a month, which Stripe has already." in again.text
    admin_client.post(page(plans.pro, "publish"), {"digest": again.context["publication"].digest})
    assert preview_publication([plans.pro]).is_empty
    assert len(list(sandbox.every("price"))) == 2


def test_a_plan_with_a_fault_is_not_published_and_the_page_says_why(admin_client, plans, sandbox):
    plans.pro.quotas.update(overage="bill")

    response = admin_client.get(page(plans.pro, "publish"))

    assert (
        "Pro cannot be published. Say what a call beyond the included 10,000 costs in usd." in response.text
    )
    assert "Nothing can be published until this is mended." in response.text
    assert "digest" not in response.text


def test_each_price_says_how_it_stands_at_stripe(admin_client, plans, sandbox, organization):
    assert admin_client.get(page(plans.pro)).text.count("Not published yet") == 2
    subscribe(sandbox, organization, plan=plans.pro)
    assert "Published. 1 subscriber is on it." in admin_client.get(page(plans.pro)).text
    set_fee(plans.pro, 3900)

    text = admin_client.get(page(plans.pro)).text

    assert "Changed since it was published: Stripe has “$29 a month”. 1 subscriber is on it." in text


def test_a_price_is_looked_up_shown_and_adopted(admin_client, plans, sandbox):
    price_id = make_price(lookup_key="pro_monthly")
    where = page(plans.pro, "adopt") + "?reference=pro_monthly"

    shown = admin_client.get(where)

    assert f"Adopt {price_id} of the product “API access”, $25 a month, as the fee of Pro" in shown.text
    assert "Adopt and publish" in shown.text
    admin_client.post(where, {"digest": shown.context["publication"].digest})
    assert fee_of(plans.pro).stripe_price_id == price_id
    assert "Adopt" in LogEntry.objects.latest("pk").change_message


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ("nobodys", "Stripe has no price with the id or lookup key nobodys."),
        ("price_missing", "Stripe has no price with the id or lookup key price_missing."),
        ("", "This field is required."),
    ],
)
def test_a_price_that_is_not_there_is_answered_with_a_sentence(
    admin_client, plans, sandbox, reference, sentence
):
    response = admin_client.get(page(plans.pro, "adopt"), {"reference": reference})

    assert sentence in response.text


def test_staff_move_subscribers_to_the_current_price(admin_client, plans, sandbox, organization, monkeypatch):
    subscription = subscribe(sandbox, organization, plan=plans.pro)
    set_fee(plans.pro, 3900)
    publish([plans.pro])
    seen = admin_client.get(page(plans.pro, "move_subscribers"))
    assert "$29 a month" in seen.text
    assert "Acme" in seen.text
    begun = []
    monkeypatch.setattr(begin_price_move, "delay", begun.append)

    with TestCase.captureOnCommitCallbacks(execute=True):
        ordered = admin_client.post(page(plans.pro, "move_subscribers"), {}, follow=True)

    move = PriceMove.objects.get()
    assert begun == [move.pk]
    assert ordered.status_code == 200
    assert "1 to do" in ordered.text
    assert subscription.id in ordered.text
    assert "Ordered to move 1 subscriber" in LogEntry.objects.latest("pk").change_message
    assert "1 to do" in admin_client.get(page(plans.pro, "move_subscribers")).text


def test_the_plan_s_page_says_how_many_are_on_older_prices(admin_client, plans, sandbox, organization):
    subscribe(sandbox, organization, plan=plans.pro)
    assert "1 subscriber is on the current prices." in admin_client.get(page(plans.pro)).text
    set_fee(plans.pro, 3900)
    publish([plans.pro])

    text = admin_client.get(page(plans.pro)).text

    assert "0 subscribers are on the current prices; 1 on older ones." in text
    assert page(plans.pro, "move_subscribers") in text


def test_with_unpublished_prices_nobody_is_moved(admin_client, plans, sandbox, organization):
    subscribe(sandbox, organization, plan=plans.pro)
    set_fee(plans.pro, 3900)

    response = admin_client.post(page(plans.pro, "move_subscribers"), {}, follow=True)

    assert "Pro has prices that are not published yet: publish them first." in told(response)
    assert not PriceMove.objects.exists()


def test_a_fee_that_subscribers_are_on_may_go_and_they_stay(admin_client, plans, sandbox, organization):
    subscription = subscribe(sandbox, organization, plan=plans.pro)
    old = fee_of(plans.pro).stripe_price_id
    fields = delete_row(form_of(plans.pro), "fees", 0)
    fields = add_row(fields, "fees", interval="year", currency="usd", unit_amount="29000", lookup_key="")

    response = admin_client.post(page(plans.pro), fields)

    assert response.status_code == 302
    assert "$29 a month is sold no more. 1 subscriber is on it, and stay." in [
        str(message) for message in response.wsgi_request._messages
    ]
    assert old in {
        item.price.id for item in get_client().v1.subscriptions.retrieve(subscription.id)["items"].data
    }
    assert [fee.interval for fee in Plan.objects.get(slug="pro").fees()] == ["year"]


def kept(admin_client: Client, plan: Plan) -> str:
    """Try to delete a plan that has to be kept; return the sentence that says why."""
    assert "Delete plan" not in admin_client.get(page(plan)).text
    response = admin_client.post(page(plan, "delete"), {"post": "yes"}, follow=True)
    assert Plan.objects.filter(pk=plan.pk).exists()
    (sentence,) = told(response)
    assert sentence in response.text
    return sentence


def test_the_default_plan_cannot_be_deleted(admin_client, plans):
    assert kept(admin_client, plans.free).startswith("Free cannot be deleted: it is the default plan")


def test_a_plan_that_an_organization_has_cannot_be_deleted(admin_client, plans, organization):
    Entitlement.objects.update(plan=plans.team)

    assert kept(admin_client, plans.team) == "Team cannot be deleted: 1 organization is on it or bought it."


def test_a_plan_that_an_organization_bought_cannot_be_deleted(admin_client, plans, organization):
    Entitlement.objects.update(bought_plan=plans.team)

    assert kept(admin_client, plans.team) == "Team cannot be deleted: 1 organization is on it or bought it."


def test_a_plan_that_an_override_gives_cannot_be_deleted(admin_client, plans, organization):
    PlanOverride.objects.create(organization=organization, plan=plans.team, reason="A favour")

    assert kept(admin_client, plans.team) == "Team cannot be deleted: 1 override is giving its limits."


def test_a_plan_that_a_subscription_in_the_mirror_is_for_cannot_be_deleted(
    admin_client, plans, sandbox, organization
):
    subscription = subscribe(sandbox, organization, plan=plans.team)
    subscription.stripe_data = {**subscription.stripe_data, "status": "canceled"}
    subscription.save()
    # As where another subscription has been bought since.
    Entitlement.objects.update(plan=plans.free, bought_plan=None)

    sentence = kept(admin_client, plans.team)

    assert sentence == "Team cannot be deleted: 1 subscription is for it, or ended ones were."


def test_an_unused_plan_can_be_deleted(admin_client, plans, sandbox):
    publish([plans.enterprise])
    assert "it can be deleted" in admin_client.get(page(plans.enterprise)).text

    admin_client.post(page(plans.enterprise, "delete"), {"post": "yes"})

    assert not Plan.objects.filter(slug="enterprise").exists()


@pytest.fixture
def onlooker(client: Client) -> Client:
    """Staff who may look at plans and not change them."""
    user = User.objects.create_user("looker@tollgate.example", "correct horse battery", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_plan"))
    client.force_login(user, backend="allauth.account.auth_backends.AuthenticationBackend")
    return client


@pytest.mark.parametrize("name", ["publish", "adopt", "move_subscribers"])
@pytest.mark.parametrize("method", ["get", "post"])
def test_staff_who_may_not_change_plans_may_not_publish_adopt_or_move(onlooker, plans, name, method):
    """No sandbox: Stripe is not even asked."""
    assert getattr(onlooker, method)(page(plans.pro, name)).status_code == 403
    assert onlooker.get(page(plans.pro)).status_code == 200


@pytest.mark.parametrize("method", ["get", "post"])
def test_staff_who_may_not_change_plans_may_not_publish_all(onlooker, plans, method):
    assert getattr(onlooker, method)(reverse("admin:billing_plan_publish_all")).status_code == 403


def test_staff_who_may_change_plans_see_what_becomes_of_a_move(client, plans, sandbox, organization):
    user = User.objects.create_user("mover@tollgate.example", "correct horse battery", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="change_plan"))
    client.force_login(user, backend="allauth.account.auth_backends.AuthenticationBackend")
    subscribe(sandbox, organization, plan=plans.pro)
    set_fee(plans.pro, 3900)
    publish([plans.pro])

    response = client.post(page(plans.pro, "move_subscribers"), {}, follow=True)

    assert response.status_code == 200
    assert "1 to do" in response.text


@pytest.mark.parametrize("name", ["publish", "adopt", "move_subscribers"])
def test_customers_have_no_such_page(browser, plans, name):
    assert browser.get(page(plans.pro, name)).status_code == 302


def test_a_plan_that_is_not_there_is_a_404(admin_client, plans):
    assert admin_client.get(reverse("admin:billing_plan_publish", args=[999_999])).status_code == 404


def test_another_plan_is_made_the_default(admin_client, plans):
    admin_client.post(page(plans.pro), form_of(plans.pro, billing_plan_make_default="1"))

    assert Plan.objects.of_last_resort() == plans.pro


def test_staff_make_a_catalogue_from_nothing_and_a_customer_pays(
    admin_client: Client, sandbox: Sandbox, owner: User
) -> None:
    """In the back office alone: a meter, a free plan, a paid one with overage, Publish."""
    admin_client.post(
        reverse("admin:billing_meter_add"),
        {"name": "Requests", "slug": "requests", "unit": "call", "aggregation": "sum"},
    )
    meter = Meter.objects.get().pk
    add = reverse("admin:billing_plan_add")
    free = {
        "name": "Free",
        "slug": "free",
        "order": "0",
        "is_public": "on",
        "is_default": "on",
        "rate_per_minute": "10",
        **rows("quotas", {"meter": meter, "included": "100", "overage": "block"}),
        **rows("fees"),
        **rows("overages"),
    }
    assert admin_client.post(add, free).status_code == 302
    paid = {
        "name": "Startup",
        "slug": "startup",
        "order": "1",
        "is_public": "on",
        "rate_per_minute": "100",
        **rows("quotas", {"meter": meter, "included": "1000", "overage": "bill"}),
        **rows("fees", {"interval": "month", "currency": "usd", "unit_amount": "4900", "lookup_key": ""}),
        **rows("overages", {"meter": meter, "currency": "usd", "tiers": "beyond: 0.5", "lookup_key": ""}),
    }
    assert admin_client.post(add, paid).status_code == 302
    startup = Plan.objects.get(slug="startup")
    digest = admin_client.get(page(startup, "publish")).context["publication"].digest
    admin_client.post(page(startup, "publish"), {"digest": digest})

    organization = Organization.objects.open(name="Acme", owner=owner)
    assert organization.entitlement.plan.slug == "free"
    subscribe(sandbox, organization, plan=startup)
    assert [(each["total"], each["status"]) for each in sandbox.every("invoice")] == [(4900, "paid")]
    assert djstripe.Subscription.objects.get().stripe_data["status"] == "active"


def test_the_first_plan_is_offered_as_the_default(admin_client):
    first = admin_client.get(reverse("admin:billing_plan_add"))

    assert first.context["adminform"].form.initial["is_default"] is True


def test_a_plan_s_page_asks_no_more_for_more_subscribers(admin_client, plans, sandbox, organization, owner):
    subscribe(sandbox, organization, plan=plans.pro)
    with CaptureQueriesContext(connection) as few:
        admin_client.get(page(plans.pro))
    for name in ("Second", "Third", "Fourth"):
        other = Organization.objects.open(name=name, owner=owner)
        subscribe_at_stripe(other, *(price.stripe_price_id for price in plans.pro.offered_prices()))

    with CaptureQueriesContext(connection) as many:
        admin_client.get(page(plans.pro))
    assert len(many) == len(few)
