"""The plan's pages in the back office: what its form takes and refuses, Publish, Adopt, Older prices, and deleting."""

from collections.abc import Callable
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.db import connection
from django.forms import modelform_factory
from django.test import Client, TestCase
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from djstripe import models as djstripe

from accounts.models import Organization, User
from billing.admin.plan_forms import FeeForm
from billing.admin.tiers import read_tiers, write_tiers
from billing.models import Entitlement, Meter, Plan, PlanOverride, PlanPrice, PriceMove
from billing.stripe.catalog import preview_publication, publish
from billing.stripe.client import get_client
from billing.tasks import begin_price_move
from sandbox.state import Sandbox
from tests.billing.cast import subscribe
from tests.billing.test_adopting import make_price
from tests.billing.test_moving import subscribe_at_stripe
from tests.billing.test_publishing import at_stripe, fee_of, overage_of, set_fee, writes

pytestmark = pytest.mark.django_db

Fields = dict[str, Any]


def page(plan: Plan, name: str = "change") -> str:
    return reverse(f"admin:billing_plan_{name}", args=[plan.pk])


def rows(prefix: str, *entries: Fields, old: int = 0) -> Fields:
    """What a table of the form sends: `entries`, the first `old` of which were there before."""
    fields = {f"{prefix}-TOTAL_FORMS": str(len(entries)), f"{prefix}-INITIAL_FORMS": str(old)}
    for number, entry in enumerate(entries):
        fields |= {f"{prefix}-{number}-{name}": str(value) for name, value in entry.items()}
    return fields


def form_of(plan: Plan, **changes: Any) -> Fields:
    """What the plan's form sends when nothing was changed, but for `changes` by the names of fields."""
    plan = Plan.objects.get(pk=plan.pk)
    quotas = [
        {
            "id": quota.pk,
            "plan": plan.pk,
            "meter": quota.meter_id,
            "included": quota.included or "",
            "overage": quota.overage,
        }
        for quota in plan.quotas.all()
    ]
    prices = list(plan.prices.order_by("pk"))
    fees = [
        {
            "id": price.pk,
            "plan": plan.pk,
            "interval": price.interval,
            "currency": price.currency,
            "unit_amount": price.unit_amount,
            "lookup_key": price.lookup_key,
        }
        for price in prices
        if not price.meter_id
    ]
    overages = [
        {
            "id": price.pk,
            "plan": plan.pk,
            "meter": price.meter_id,
            "currency": price.currency,
            "tiers": write_tiers((tier.up_to, tier.unit_amount) for tier in price.tiers.all()),
            "lookup_key": price.lookup_key,
        }
        for price in prices
        if price.meter_id
    ]
    fields = {
        "name": plan.name,
        "description": plan.description,
        "rate_per_minute": plan.rate_per_minute or "",
        "trial_days": plan.trial_days or "",
        "order": plan.order,
        "is_public": "on",
        **rows("quotas", *quotas, old=len(quotas)),
        **rows("fees", *fees, old=len(fees)),
        **rows("overages", *overages, old=len(overages)),
    }
    return fields | changes


def add_row(fields: Fields, prefix: str, **entry: Any) -> Fields:
    number = int(fields[f"{prefix}-TOTAL_FORMS"])
    added = {f"{prefix}-{number}-{name}": value for name, value in entry.items()}
    return {**fields, **added, f"{prefix}-TOTAL_FORMS": str(number + 1)}


def delete_row(fields: Fields, prefix: str, number: int) -> Fields:
    return {**fields, f"{prefix}-{number}-DELETE": "on"}


@pytest.fixture
def save(admin_client: Client, plans: SimpleNamespace) -> Callable[..., Any]:
    """Send Pro's form; return the answer."""

    def send(fields: Fields) -> Any:
        return admin_client.post(page(plans.pro), fields)

    return send


def told(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]


# What the form takes


def test_the_form_saves_limits_prices_trial_and_tiers(save, plans):
    fields = form_of(plans.pro, rate_per_minute="120", trial_days="14", **{"quotas-0-overage": "bill"})
    fields["overages-0-tiers"] = "up to 50,000: 0.2\nbeyond: 0.1"
    fields = add_row(fields, "fees", interval="year", currency="usd", unit_amount="29000", lookup_key="")

    assert save(fields).status_code == 302

    plan = Plan.objects.get(slug="pro")
    assert (plan.rate_per_minute, plan.trial_days) == (120, 14)
    assert {(fee.interval, fee.unit_amount) for fee in plan.fees()} == {("month", 2900), ("year", 29_000)}
    assert overage_of(plan).stripe_tiers() == [
        {"up_to": 10_000, "unit_amount_decimal": "0"},
        {"up_to": 50_000, "unit_amount_decimal": "0.2"},
        {"up_to": "inf", "unit_amount_decimal": "0.1"},
    ]


def test_saving_an_unchanged_form_changes_nothing(save, plans, sandbox):
    publish([plans.pro])
    before = list(PlanPrice.objects.values())

    assert save(form_of(plans.pro)).status_code == 302

    assert list(PlanPrice.objects.values()) == before


def test_neither_slug_nor_default_can_be_sent(save, plans):
    save(form_of(plans.pro, slug="renamed", is_default="on"))

    plan = Plan.objects.get(pk=plans.pro.pk)
    assert (plan.slug, plan.is_default) == ("pro", False)


def test_a_fee_in_another_currency_gets_a_free_metered_price_by_itself(save, plans):
    fields = form_of(plans.pro)

    save(add_row(fields, "fees", interval="month", currency="eur", unit_amount="2500", lookup_key=""))

    metered = plans.pro.prices.get(meter__slug="requests", currency="eur")
    assert (metered.unit_amount, metered.stripe_tiers()) == (0, [])


def test_a_quota_that_goes_takes_its_free_metered_price_with_it(save, plans):
    save(delete_row(form_of(plans.pro), "quotas", 0))

    assert not plans.pro.prices.exclude(meter=None).exists()


def test_a_lookup_key_can_be_chosen_until_the_price_is_published(save, plans, sandbox):
    save(form_of(plans.pro, **{"fees-0-lookup_key": "pro_monthly"}))
    assert fee_of(plans.pro).lookup_key == "pro_monthly"
    publish([plans.pro])

    changes = {"fees-0-lookup_key": "other", "fees-0-currency": "eur", "fees-0-interval": "year"}
    assert save(form_of(plans.pro, **changes)).status_code == 302

    assert fee_of(plans.pro).lookup_key == "pro_monthly"


def test_saving_does_not_forget_what_was_published_meanwhile(plans, sandbox):
    form = modelform_factory(PlanPrice, form=FeeForm, fields=["unit_amount", "lookup_key"])
    read = form({"unit_amount": 3900, "lookup_key": "tollgate_pro_month_usd"}, instance=fee_of(plans.pro))
    publish([plans.pro])

    read.save()

    fee = fee_of(plans.pro)
    assert (fee.unit_amount, fee.published_terms["unit_amount"]) == (3900, 2900)
    assert fee.stripe_price_id == at_stripe(sandbox, "tollgate_pro_month_usd")["id"]


# What the form refuses


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"rate_per_minute": "0"}, "Use 1 or more, or leave it empty for unlimited: 0 would let nobody in."),
        (
            {"quotas-0-included": "0"},
            "Use 1 or more, or leave it empty for unlimited: 0 would let nobody in.",
        ),
        ({"trial_days": "0"}, "Use 1 or more, or leave it empty for no trial."),
        ({"trial_days": "731"}, "Stripe allows trials of at most 730 days."),
        ({"quotas-0-meter": ""}, "Choose what is counted: a quota needs a meter."),
        ({"overages-0-meter": ""}, "Choose what is counted: an overage price needs a meter."),
        ({"fees-0-unit_amount": "-1"}, "A price cannot be negative: use a coupon to give money off."),
        ({"fees-0-currency": "US$"}, "Use a three-letter ISO 4217 code in small letters, such as usd."),
        (
            {"quotas-0-included": "", "quotas-0-overage": "bill"},
            "Unlimited units leave nothing to bill: say how many are included.",
        ),
        (
            {"quotas-0-overage": "bill"},
            "Say what a call beyond the included 10,000 costs in usd.",
        ),
        (
            {"quotas-0-overage": "bill", "overages-0-tiers": "beyond: -0.2"},
            "A price cannot be negative: “beyond: -0.2”.",
        ),
        (
            {
                "quotas-0-overage": "bill",
                "overages-0-tiers": "up to 50,000: 0.2\nup to 20,000: 0.1\nbeyond: 0.05",
            },
            "Requests in usd: Tiers are out of order: 20,000 does not lie beyond the tier before it, 50,000.",
        ),
        (
            {"quotas-0-overage": "bill", "overages-0-tiers": "up to 9,000: 0.2\nbeyond: 0.1"},
            "Requests in usd: Tiers are out of order: 9,000 does not lie beyond the 10,000 units that are included.",
        ),
        (
            {"quotas-0-overage": "bill", "overages-0-tiers": "beyond: 0.2\nup to 20,000: 0.1"},
            "Requests in usd: Only the last tier may have no end: the tiers after it would never be reached.",
        ),
        (
            {"quotas-0-overage": "bill", "overages-0-tiers": "up to 20,000: 0.1"},
            "Requests in usd: What does a unit beyond 20,000 cost? Leave the last tier&#x27;s end empty.",
        ),
        (
            {"quotas-0-overage": "bill", "overages-0-tiers": "twenty cents"},
            "“twenty cents” is no tier. Write “up to 50,000: 0.2”, and on the last line “beyond: 0.1”.",
        ),
        (
            {"overages-0-tiers": "beyond: 0.2"},
            "Requests in usd: calls beyond the included 10,000 are refused, so nothing can be charged for them. "
            "Bill further units, or empty the tiers.",
        ),
        (
            {"quotas-0-included": "", "overages-0-tiers": "beyond: 0.2"},
            "Requests in usd: The plan includes unlimited units: there is nothing for tiers to price.",
        ),
    ],
)
def test_the_form_refuses_with_a_sentence(save, plans, changes, sentence):
    before = list(PlanPrice.objects.values()), list(Plan.objects.values())

    response = save(form_of(plans.pro, **changes))

    assert response.status_code == 200
    assert sentence in response.text
    assert (list(PlanPrice.objects.values()), list(Plan.objects.values())) == before


def test_included_units_may_not_grow_past_the_tiers_that_lie_beyond_them(save, plans):
    fields = form_of(
        plans.pro, **{"quotas-0-overage": "bill", "overages-0-tiers": "up to 50,000: 0.2\nbeyond: 0.1"}
    )
    assert save(fields).status_code == 302

    response = save(form_of(plans.pro, **{"quotas-0-included": "60000"}))

    assert "50,000 does not lie beyond the 60,000 units that are included." in response.text
    assert plans.pro.quotas.get().included == 10_000


def test_overage_needs_a_price_in_each_currency_of_a_fee(save, plans):
    fields = form_of(plans.pro, **{"quotas-0-overage": "bill", "overages-0-tiers": "beyond: 0.2"})
    fields = add_row(fields, "fees", interval="month", currency="eur", unit_amount="2500", lookup_key="")

    assert "Say what a call beyond the included 10,000 costs in eur." in save(fields).text

    meter = Meter.objects.get().pk
    fields = add_row(fields, "overages", meter=meter, currency="eur", tiers="beyond: 0.2", lookup_key="")
    assert save(fields).status_code == 302
    assert {row.currency for row in plans.pro.prices.exclude(meter=None)} == {"usd", "eur"}


def test_a_plan_without_a_fee_cannot_bill_overage(admin_client, plans):
    response = admin_client.post(page(plans.free), form_of(plans.free, **{"quotas-0-overage": "bill"}))

    assert "a plan without a fee has no invoice to put further calls on." in response.text


@pytest.mark.parametrize(
    ("prefix", "entry", "sentence"),
    [
        (
            "fees",
            {"interval": "month", "currency": "usd", "unit_amount": "100", "lookup_key": ""},
            "There are two fees for a month in usd: leave one.",
        ),
        ("quotas", {"included": "5", "overage": "block"}, "There are two quotas of Requests: leave one."),
        (
            "overages",
            {"currency": "usd", "tiers": "", "lookup_key": ""},
            "There are two overage prices of Requests in usd: leave one.",
        ),
    ],
)
def test_two_rows_for_the_same_are_refused(save, plans, prefix, entry, sentence):
    meter = {} if prefix == "fees" else {"meter": Meter.objects.get().pk}

    response = save(add_row(form_of(plans.pro), prefix, **entry, **meter))

    assert response.status_code == 200
    assert sentence in response.text


def test_tiers_of_a_meter_that_the_plan_does_not_count_are_refused(save, plans):
    tokens = Meter.objects.create(slug="tokens", name="Tokens", unit="token")
    fields = form_of(plans.pro)

    response = save(
        add_row(fields, "overages", meter=tokens.pk, currency="usd", tiers="beyond: 1", lookup_key="")
    )

    assert (
        "Tokens in usd: the plan has no quota of tokens that these tiers could lie beyond." in response.text
    )


def test_a_slug_that_would_be_taken_for_a_meter_s_product_is_refused(admin_client, plans):
    empty = {**rows("quotas"), **rows("fees"), **rows("overages")}

    response = admin_client.post(
        reverse("admin:billing_plan_add"), {"name": "Odd", "slug": "meter_requests", "order": "9", **empty}
    )

    assert "A slug may not begin with meter_" in response.text


@pytest.mark.parametrize(
    ("text", "tiers"),
    [
        ("", []),
        ("0.2", [(None, Decimal("0.2"))]),
        ("up to 50,000: 0.2\nbeyond: 0.1", [(50_000, Decimal("0.2")), (None, Decimal("0.1"))]),
        ("to 50000 0.2\n\nThen 0", [(50_000, Decimal("0.2")), (None, Decimal(0))]),
    ],
)
def test_tiers_are_read_as_people_write_them(text, tiers):
    assert read_tiers(text) == tiers
    assert read_tiers(write_tiers(tiers)) == tiers


# Publishing


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
    assert {entry.object_repr for entry in LogEntry.objects.all()} == {"Pro", "Team", "Enterprise"}


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


# Adopting


def test_a_price_is_looked_up_shown_and_adopted(admin_client, plans, sandbox):
    price_id = make_price(lookup_key="pro_monthly")
    where = page(plans.pro, "adopt") + "?reference=pro_monthly"

    shown = admin_client.get(where)

    assert f"Adopt {price_id} of the product “API access”, $25 a month, as the fee of Pro" in shown.text
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


# Older prices


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


# Deleting


def test_a_fee_that_subscribers_are_on_may_go_and_they_stay(save, plans, sandbox, organization):
    subscription = subscribe(sandbox, organization, plan=plans.pro)
    old = fee_of(plans.pro).stripe_price_id
    fields = delete_row(form_of(plans.pro), "fees", 0)
    fields = add_row(fields, "fees", interval="year", currency="usd", unit_amount="29000", lookup_key="")

    response = save(fields)

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
    assert Entitlement.objects.get().plan == plans.free

    sentence = kept(admin_client, plans.team)

    assert sentence == "Team cannot be deleted: 1 subscription is for it, or ended ones were."


def test_an_unused_plan_can_be_deleted(admin_client, plans, sandbox):
    publish([plans.enterprise])
    assert "it can be deleted" in admin_client.get(page(plans.enterprise)).text

    admin_client.post(page(plans.enterprise, "delete"), {"post": "yes"})

    assert not Plan.objects.filter(slug="enterprise").exists()


# Who may


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


# The default plan, and a catalogue from nothing


def test_another_plan_is_made_the_default(save, plans):
    save(form_of(plans.pro, billing_plan_make_default="1"))

    assert Plan.objects.of_last_resort() == plans.pro


def test_staff_make_a_catalogue_from_nothing_and_a_customer_pays(
    admin_client: Client, sandbox: Sandbox, owner: User
) -> None:
    """In the back office alone: a meter, a free plan, a paid one with overage, Publish."""
    admin_client.post(
        reverse("admin:billing_meter_add"), {"name": "Requests", "slug": "requests", "unit": "call"}
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
