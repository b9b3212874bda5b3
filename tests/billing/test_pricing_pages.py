"""What the plan cards say, and to whom."""

import re
from decimal import Decimal

import pytest

from billing.buyers import Action
from billing.models import PlanQuota
from billing.price_list import open_price_list
from billing.stripe.changing import change_plan
from billing.stripe.ending import cancel_at_period_end
from tests.billing.cast import publish_all, subscribe

pytestmark = pytest.mark.django_db


@pytest.fixture
def yearly(plans):
    """Pro and Team by the year too, and Pro in euros; published."""
    plans.pro.prices.create(interval="year", unit_amount=29_000)
    plans.team.prices.create(interval="year", unit_amount=99_000)
    plans.pro.prices.create(currency="eur", unit_amount=2_700)


@pytest.fixture
def overage(plans):
    """Pro bills what lies beyond its quota."""
    plans.pro.quotas.update(overage=PlanQuota.Overage.BILL)
    return plans.pro.prices.get(meter__slug="requests")


def text_of(page) -> str:
    """Return a page's words, without its tags."""
    text = re.sub(r"<[^>]+>", " ", page.content.decode())
    return re.sub(r"\s+", " ", text)


def card(price_list, slug: str):
    return next(card for card in price_list.cards if card.plan.slug == slug)


def actions(price_list) -> dict[str, Action]:
    return {card.plan.slug: card.action for card in price_list.cards}


def test_the_price_list_shows_what_stripe_would_charge(sandbox, client, plans):
    publish_all()

    text = text_of(client.get("/pricing/"))

    assert "Pro For a product with its first customers. $29 a month" in text
    assert "Start with Pro" in text


def test_a_price_that_is_not_published_is_not_shown(sandbox, client, plans):
    publish_all()
    plans.pro.prices.filter(meter=None).update(unit_amount=4_900)

    text = text_of(client.get("/pricing/"))

    assert "$49 a month" not in text
    assert "Pro For a product with its first customers. Price on request" in text
    assert "Start with Pro" not in text


def test_without_a_choice_there_is_no_switch(sandbox, client, plans):
    publish_all()

    assert "Yearly" not in text_of(client.get("/pricing/"))
    assert "USD" not in text_of(client.get("/pricing/"))


def test_a_yearly_price_that_is_not_published_offers_no_switch(sandbox, client, plans):
    publish_all()
    plans.pro.prices.create(interval="year", unit_amount=29_000)

    assert "Yearly" not in text_of(client.get("/pricing/"))


def test_the_switch_leads_to_yearly_prices(sandbox, client, plans, yearly):
    publish_all()
    assert 'href="?interval=year&amp;currency=usd"' in client.get("/pricing/").content.decode()

    text = text_of(client.get("/pricing/", {"interval": "year"}))

    assert "$290 a year" in text
    assert "$29 a month" not in text
    # Not sold by the year: its monthly price, and not a gap.
    assert "Enterprise No limits. $499 a month" in text


def test_another_currency_shows_its_prices(sandbox, client, plans, yearly):
    publish_all()

    text = text_of(client.get("/pricing/", {"currency": "eur"}))

    assert "€27 a month" in text
    assert "Team For growing traffic. Price on request" in text


@pytest.mark.parametrize(
    "query", [{"interval": "week"}, {"currency": "xyz"}, {"interval": "\0", "currency": "\0"}]
)
def test_a_choice_that_nothing_is_sold_in_gives_way(sandbox, client, plans, yearly, query):
    publish_all()

    assert "$29 a month" in text_of(client.get("/pricing/", query))


def test_a_trial_is_shown_to_a_visitor(sandbox, client, plans):
    plans.pro.trial_days = 14
    plans.pro.save()
    publish_all()

    assert "14 days free, then $29 a month" in text_of(client.get("/pricing/"))


def test_a_trial_is_not_shown_to_who_has_had_one(sandbox, browser, organization, plans):
    subscribe(sandbox, organization, plan=plans.pro)
    sandbox_subscription = next(iter(sandbox.every("subscription")))
    assert sandbox_subscription["status"] == "active"
    plans.team.trial_days = 14
    plans.team.save()

    assert "days free" not in text_of(browser.get("/pricing/"))


@pytest.mark.parametrize(
    ("tiers", "text"),
    [
        ([(None, "0.2")], "then $0.002 a call"),
        ([(50_000, "0.2"), (None, "0.1")], "then $0.002 a call, $0.001 beyond 50,000"),
        (
            [(20_000, "0.3"), (50_000, "0.2"), (None, "0.1")],
            "then $0.003 a call at first, $0.001 beyond 50,000",
        ),
        ([(None, "0")], "then at no charge"),
    ],
)
def test_a_card_says_what_further_units_cost(sandbox, client, overage, tiers, text):
    for up_to, amount in tiers:
        overage.tiers.create(up_to=up_to, unit_amount=Decimal(amount))
    publish_all()

    shown = text_of(client.get("/pricing/"))

    assert f"10,000 calls a month {text} " in shown
    assert "100,000 calls a month then refused, never billed" in shown


def test_a_visitor_may_sign_up_for_what_is_on_sale(sandbox, plans):
    publish_all()
    plans.team.prices.filter(meter=None).update(unit_amount=1)

    assert actions(open_price_list()) == {
        "free": "sign_up",
        "pro": "sign_up",
        "team": "nothing",
        "enterprise": "sign_up",
    }


def test_a_customer_on_free_may_choose(sandbox, organization, plans):
    publish_all()

    assert actions(open_price_list(organization)) == {
        "free": "current",
        "pro": "choose",
        "team": "choose",
        "enterprise": "choose",
    }


def test_a_subscriber_may_move_up_down_and_away(sandbox, organization, plans):
    subscribe(sandbox, organization, plan=plans.team)

    assert actions(open_price_list(organization)) == {
        "free": "leave",
        "pro": "downgrade",
        "team": "current",
        "enterprise": "upgrade",
    }


def test_what_is_scheduled_is_the_next_plan(sandbox, organization, plans):
    subscribe(sandbox, organization, plan=plans.team)
    change_plan(organization, plan=plans.pro)

    assert actions(open_price_list(organization))["pro"] == "next"


def test_what_would_be_refused_is_not_offered_and_said_why(sandbox, browser, organization, plans):
    subscribe(sandbox, organization, plan=plans.pro)
    cancel_at_period_end(organization)

    page = browser.get("/dashboard/billing/")

    assert actions(page.context["price_list"]) == {
        "free": "nothing",
        "pro": "current",
        "team": "nothing",
        "enterprise": "nothing",
    }
    assert "Your subscription is set to end. Resume it first." in text_of(page)


def test_a_monthly_subscriber_may_switch_to_yearly(sandbox, browser, organization, plans, yearly):
    subscribe(sandbox, organization, plan=plans.pro)

    page = browser.get("/dashboard/billing/", {"interval": "year"})

    assert actions(page.context["price_list"])["pro"] == "switch"
    assert "/dashboard/billing/change/?plan=pro&amp;interval=year" in page.content.decode()
    assert "Switch to yearly" in text_of(page)


def test_a_subscriber_sees_the_currency_they_pay_in_alone(sandbox, organization, plans, yearly):
    subscribe(sandbox, organization, plan=plans.pro)

    price_list = open_price_list(organization, currency="eur")

    assert (price_list.currency, price_list.currencies) == ("usd", ("usd",))


def test_choosing_a_yearly_plan_opens_a_page_for_the_yearly_fee(
    sandbox, browser, organization, plans, yearly
):
    publish_all()
    page = browser.get("/pricing/", {"interval": "year"})

    opened = browser.post(
        "/dashboard/billing/checkout/",
        {"plan": "pro", "interval": "year", "currency": "usd", "attempt": page.context["attempt"]},
    )

    (session,) = sandbox.every("checkout.session")
    assert opened.url == session["url"]
    assert session["amount_total"] == 29_000


@pytest.mark.parametrize(
    ("field", "value"), [("interval", "week"), ("currency", "dollars"), ("currency", "\0")]
)
def test_a_checkout_that_nothing_is_sold_by_is_not_found(sandbox, browser, plans, field, value):
    publish_all()
    form = {"plan": "pro", "attempt": "00000000-0000-4000-8000-000000000001", field: value}

    assert browser.post("/dashboard/billing/checkout/", form).status_code == 404
    assert list(sandbox.every("checkout.session")) == []


def test_a_developer_sees_the_plans_and_no_way_to_buy(sandbox, client, developer, plans):
    publish_all()
    client.force_login(developer, backend="allauth.account.auth_backends.AuthenticationBackend")

    text = text_of(client.get("/pricing/"))

    assert "Choose Pro" not in text
    assert "Only owners, admins and billing members of your organization can change its plan." in text


def test_the_front_page_shows_what_is_on_sale(sandbox, client, plans):
    publish_all()

    assert "Pro $29 a month 10,000 calls a month" in text_of(client.get("/"))
