from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from django.db import connection

from accounts.models import Organization
from billing.entitlements import refresh_entitlement
from billing.errors import AlreadySubscribed, NotPublished, StripeRejected, StripeUnavailable
from billing.models import Entitlement
from billing.stripe import checkout, unfinished
from billing.stripe.checkout import complete_checkout
from billing.stripe.client import get_client
from billing.stripe.customers import ensure_customer
from billing.stripe.subscriptions import sync_subscriptions
from tests.billing.buying import (
    BERLIN,
    SECOND_ATTEMPT,
    charge_tax_in_germany,
    mirrored,
    open_pages,
    paid,
    sell,
    settings,
)
from tests.billing.cast import DECLINED, open_checkout, pay, publish_all, session_id_of, subscribe

pytestmark = pytest.mark.django_db


def test_paying_puts_the_organization_on_the_plan(sandbox, organization, plans):
    subscribe(sandbox, organization, plan=plans.pro)

    entitlement = refresh_entitlement(organization)

    assert (entitlement.plan, entitlement.status, entitlement.rate_per_minute) == (plans.pro, "active", 100)
    assert entitlement.find_quota("requests") == 10_000


def test_the_quota_period_is_stripe_s_billing_period(sandbox, organization, plans):
    subscription = subscribe(sandbox, organization, plan=plans.pro)
    item = subscription.stripe_data["items"]["data"][0]

    entitlement = refresh_entitlement(organization)

    assert entitlement.period_start == datetime.fromtimestamp(item["current_period_start"], UTC)
    assert entitlement.period_end == datetime.fromtimestamp(item["current_period_end"], UTC)


def test_a_declined_card_leaves_the_customer_on_free(sandbox, organization, plans):
    publish_all()
    answer = pay(sandbox, open_checkout(organization, plan=plans.pro), card=DECLINED)
    session = next(s for s in sandbox.every("checkout.session"))

    assert "declined" in answer.get_data(as_text=True)
    assert not complete_checkout(organization, session_id=session["id"])
    assert refresh_entitlement(organization).plan == plans.free


def test_repeating_a_try_gives_the_same_page_back(sandbox, organization, plans):
    publish_all()

    assert open_checkout(organization, plan=plans.pro) == open_checkout(organization, plan=plans.pro)
    assert len(list(sandbox.every("checkout.session"))) == 1


def test_a_second_tab_closes_the_first_one_s_page(sandbox, organization, plans):
    publish_all()
    first = open_checkout(organization, plan=plans.pro)
    second = open_checkout(organization, plan=plans.team, attempt=SECOND_ATTEMPT)
    pay(sandbox, second)
    pay(sandbox, first)

    assert len(list(sandbox.every("subscription"))) == 1


def test_a_subscriber_cannot_open_another_checkout(sandbox, organization, plans):
    subscribe(sandbox, organization, plan=plans.pro)

    with pytest.raises(AlreadySubscribed):
        open_checkout(organization, plan=plans.team, attempt=SECOND_ATTEMPT)


def test_a_subscription_that_no_webhook_told_of_is_known_after_the_refusal(sandbox, organization, plans):
    publish_all()
    pay(sandbox, open_checkout(organization, plan=plans.pro))

    with pytest.raises(AlreadySubscribed):
        open_checkout(organization, plan=plans.team, attempt=SECOND_ATTEMPT)

    assert refresh_entitlement(organization).plan == plans.pro


def test_a_plan_that_is_not_published_cannot_be_bought(sandbox, organization, plans):
    with pytest.raises(NotPublished, match="Pro"):
        open_checkout(organization, plan=plans.pro)


def test_another_organization_s_checkout_is_not_found(sandbox, organization, outsider, plans):
    publish_all()
    paid = pay(sandbox, open_checkout(organization, plan=plans.pro))
    rival = Organization.objects.get(name="Rival")

    with pytest.raises(LookupError):
        complete_checkout(rival, session_id=session_id_of(paid))
    assert refresh_entitlement(rival).plan == plans.free


def test_a_made_up_session_is_stripe_s_to_refuse(sandbox, organization):
    with pytest.raises(StripeRejected):
        complete_checkout(organization, session_id="cs_test_nothing")


class TestOffer:
    """What a page offers and asks for."""

    def test_a_yearly_plan_charges_the_year_and_counts_usage_by_the_month(self, sandbox, organization, plans):
        publish_all()
        sell(plans.pro, interval="year", unit_amount=29_000)

        pay(sandbox, open_checkout(organization, plan=plans.pro, interval="year"))

        (subscription,) = get_client().v1.subscriptions.list().data
        assert sorted(
            (item["price"]["recurring"]["usage_type"], item["price"]["recurring"]["interval"])
            for item in subscription["items"]["data"]
        ) == [("licensed", "year"), ("metered", "month")]
        assert subscription["billing_mode"]["type"] == "flexible"
        assert paid(sandbox) == 29_000

    def test_a_plan_is_sold_in_another_currency(self, sandbox, organization, plans):
        publish_all()
        sell(plans.pro, currency="eur", unit_amount=2_700)

        pay(sandbox, open_checkout(organization, plan=plans.pro, currency="eur"))

        (charge,) = sandbox.every("charge")
        assert (charge["amount"], charge["currency"]) == (2_700, "eur")

    def test_a_promotion_code_takes_money_off(self, sandbox, organization, plans):
        publish_all()
        api = get_client().v1
        coupon = api.coupons.create({"percent_off": 50, "duration": "once"})
        api.promotion_codes.create({"promotion": {"type": "coupon", "coupon": coupon.id}, "code": "HALF"})

        pay(sandbox, open_checkout(organization, plan=plans.pro), promotion_code="HALF")

        assert paid(sandbox) == 1_450

    def test_promotion_codes_can_be_switched_off(self, sandbox, organization, plans):
        publish_all()
        settings(allow_promotion_codes=False)
        open_checkout(organization, plan=plans.pro)

        assert not open_pages(sandbox)[0]["allow_promotion_codes"]

    def test_tax_goes_by_the_address_that_the_page_asks_for(self, sandbox, organization, plans):
        publish_all()
        charge_tax_in_germany()
        settings(automatic_tax=True)

        pay(sandbox, open_checkout(organization, plan=plans.pro), **BERLIN)

        (customer,) = sandbox.every("customer")
        assert paid(sandbox) == 3_451  # 2,900 and 19 %
        assert customer["address"]["country"] == "DE"
        assert mirrored_now(organization)["automatic_tax"]["enabled"]

    def test_without_an_address_a_taxed_page_cannot_be_paid(self, sandbox, organization, plans):
        publish_all()
        charge_tax_in_germany()
        settings(automatic_tax=True)

        answer = pay(sandbox, open_checkout(organization, plan=plans.pro))

        assert "Choose a country" in answer.get_data(as_text=True)
        assert list(sandbox.every("subscription")) == []

    def test_a_business_s_tax_id_is_kept_on_the_customer(self, sandbox, organization, plans):
        publish_all()
        settings(collect_tax_ids=True)
        business = {"business": "on", "business_name": "Acme GmbH", "tax_id": "DE123456789"}

        pay(sandbox, open_checkout(organization, plan=plans.pro), **BERLIN, **business)

        (tax_id,) = sandbox.every("tax_id")
        (customer,) = sandbox.every("customer")
        assert (tax_id["customer"], tax_id["value"]) == (customer["id"], "DE123456789")
        assert (customer["name"], customer["address"]["city"]) == ("Acme GmbH", "Berlin")

    @pytest.mark.parametrize("other", [{"interval": "year"}, {"currency": "eur"}, {"plan": "team"}])
    def test_repeating_a_try_for_another_offer_opens_another_page(self, sandbox, organization, plans, other):
        publish_all()
        sell(plans.pro, interval="year", unit_amount=29_000)
        sell(plans.pro, currency="eur", unit_amount=2_700)
        first = open_checkout(organization, plan=plans.pro)
        plan = getattr(plans, other.pop("plan", "pro"))

        second = open_checkout(organization, plan=plan, **other)

        assert second != first
        assert [page["url"] for page in open_pages(sandbox)] == [second]
        assert open_checkout(organization, plan=plan, **other) == second

    def test_repeating_a_try_at_a_price_that_has_changed_opens_another_page(
        self, sandbox, organization, plans
    ):
        publish_all()
        first = open_checkout(organization, plan=plans.pro)
        plans.pro.prices.filter(meter=None).update(unit_amount=3_900)
        publish_all()

        assert open_checkout(organization, plan=plans.pro) != first
        assert [page["amount_total"] for page in open_pages(sandbox)] == [3_900]

    def test_a_page_of_the_same_try_that_was_paid_while_it_was_replaced_is_found(
        self, sandbox, organization, plans, monkeypatch
    ):
        publish_all()
        first = open_checkout(organization, plan=plans.pro)
        real = checkout.close_page

        def late(session) -> None:
            pay(sandbox, first)
            real(session)

        monkeypatch.setattr(checkout, "close_page", late)

        with pytest.raises(AlreadySubscribed):
            open_checkout(organization, plan=plans.team)
        assert len(list(sandbox.every("subscription"))) == 1
        assert open_pages(sandbox) == []

    def test_another_try_s_page_that_was_paid_while_it_was_closed_is_found(
        self, sandbox, organization, plans, monkeypatch
    ):
        publish_all()
        first = open_checkout(organization, plan=plans.pro)
        real = unfinished.close_page

        def late(session) -> None:
            pay(sandbox, first)
            real(session)

        monkeypatch.setattr(unfinished, "close_page", late)

        with pytest.raises(AlreadySubscribed):
            open_checkout(organization, plan=plans.team, attempt=SECOND_ATTEMPT)
        assert refresh_entitlement(organization).plan == plans.pro

    def test_a_subscription_made_elsewhere_closes_the_page_of_the_same_try(
        self, sandbox, organization, plans
    ):
        publish_all()
        open_checkout(organization, plan=plans.pro)
        api = get_client().v1
        customer = ensure_customer(organization).id
        card = api.payment_methods.attach("pm_card_visa", {"customer": customer})
        api.subscriptions.create(
            {
                "customer": customer,
                "items": [{"price": plans.team.offered_prices()[0].stripe_price_id}],
                "default_payment_method": card.id,
            }
        )

        with pytest.raises(AlreadySubscribed):
            open_checkout(organization, plan=plans.pro)
        assert open_pages(sandbox) == []


def mirrored_now(organization) -> dict:
    sync_subscriptions(ensure_customer(organization).id)
    return mirrored(organization)


class TestPages:
    def start(self, browser, plan: str = "pro"):
        attempt = browser.get("/pricing/").context["attempt"]
        return browser.post("/dashboard/billing/checkout/", {"plan": plan, "attempt": attempt})

    def test_the_customer_comes_back_to_a_dashboard_that_says_pro(self, sandbox, browser, organization):
        publish_all()
        paid = pay(sandbox, self.start(browser).url)

        # No webhook has been delivered.
        dashboard = browser.get(paid.headers["Location"], follow=True)

        assert dashboard.redirect_chain == [("/dashboard/", 302)]
        assert dashboard.context["entitlement"].plan.slug == "pro"
        assert "Thank you. You are on Pro now." in dashboard.content.decode()

    def test_a_declined_customer_s_dashboard_says_free(self, sandbox, browser, organization):
        publish_all()
        pay(sandbox, self.start(browser).url, card=DECLINED)

        assert browser.get("/dashboard/").context["entitlement"].plan.slug == "free"

    def test_a_teammate_without_the_role_cannot_buy(self, sandbox, client, developer):
        publish_all()
        client.force_login(developer, backend="allauth.account.auth_backends.AuthenticationBackend")

        assert self.start(client).status_code == 403
        assert list(sandbox.every("checkout.session")) == []

    def test_an_unknown_plan_is_not_found(self, sandbox, browser):
        assert self.start(browser, plan="platinum").status_code == 404

    def test_a_plan_with_a_nul_in_its_name_is_not_found(self, sandbox, browser):
        assert self.start(browser, plan="pro\0").status_code == 404

    def test_a_form_without_its_attempt_is_refused(self, sandbox, browser):
        publish_all()

        assert browser.post("/dashboard/billing/checkout/", {"plan": "pro"}).status_code == 400

    def test_free_cannot_be_bought(self, sandbox, browser):
        publish_all()
        page = self.start(browser, plan="free")

        assert page.url == "/dashboard/billing/"
        assert list(sandbox.every("checkout.session")) == []

    def test_with_stripe_down_the_customer_is_told_and_nothing_is_charged(
        self, sandbox, browser, monkeypatch
    ):
        def fail(*args, **kwargs):
            raise StripeUnavailable("The payment provider cannot be reached right now.")

        monkeypatch.setattr("billing.views.subscribing.start_checkout", fail)
        page = self.start(browser)

        assert page.url == "/dashboard/billing/"
        assert "Nothing was charged." in browser.get(page.url).content.decode()

    def test_coming_back_to_another_organization_s_session_is_not_found(
        self, sandbox, browser, outsider, client
    ):
        publish_all()
        paid = pay(sandbox, self.start(browser).url)
        client.force_login(outsider, backend="allauth.account.auth_backends.AuthenticationBackend")

        assert client.get(paid.headers["Location"]).status_code == 404
        assert set(Entitlement.objects.values_list("plan__slug", flat=True)) == {"free"}

    @pytest.mark.parametrize(
        "session_id", ["", "cs_test_nothing", "../customers", "sub_1", "cs_" + "a" * 300]
    )
    def test_coming_back_to_no_session_at_all_is_not_found(self, sandbox, browser, session_id):
        assert browser.get("/dashboard/billing/return/", {"session_id": session_id}).status_code == 404

    def test_with_stripe_down_on_the_way_back_the_customer_is_told_to_wait(
        self, sandbox, browser, monkeypatch
    ):
        def fail(*args, **kwargs):
            raise StripeUnavailable("The payment provider cannot be reached right now.")

        monkeypatch.setattr("billing.views.subscribing.finish_checkout", fail)
        page = browser.get("/dashboard/billing/return/", {"session_id": "cs_test_1"}, follow=True)

        assert "Your payment is being confirmed" in page.content.decode()


def test_a_price_that_staff_changed_and_nobody_published_is_not_sold(sandbox, organization, plans):
    publish_all()
    plans.pro.prices.filter(meter=None).update(unit_amount=100)

    with pytest.raises(NotPublished, match="not published"):
        open_checkout(organization, plan=plans.pro)


def test_the_price_shown_is_the_price_sold(sandbox, organization, plans):
    plans.pro.prices.create(currency="eur", unit_amount=2500)

    assert plans.pro.find_base_price().currency == "usd"
    assert {price.currency for price in plans.pro.offered_prices()} == {"usd"}


@pytest.mark.django_db(transaction=True)
def test_checkouts_opened_at_once_leave_one_page_that_can_be_paid(sandbox, organization, plans):
    publish_all()
    ensure_customer(organization)
    attempts = [f"00000000-0000-4000-8000-00000000000{n}" for n in range(6)]

    def open_one(attempt: str) -> str:
        try:
            return open_checkout(organization, plan=plans.pro, attempt=attempt)
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as tabs:
        pages = list(tabs.map(open_one, attempts))
    for page in pages:
        pay(sandbox, page)

    assert len(set(pages)) == 6
    assert len(list(sandbox.every("subscription"))) == 1
