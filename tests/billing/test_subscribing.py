import pytest
import stripe
from djstripe import models as djstripe

from billing.entitlements import refresh_entitlement
from billing.errors import AlreadySubscribed, ChangeRefused, NotPublished
from billing.stripe import unfinished
from billing.stripe.client import get_client
from billing.stripe.subscribing import create_subscription
from billing.stripe.subscriptions import sync_subscriptions
from tests.billing.buying import (
    BERLIN,
    SECOND_ATTEMPT,
    charge_tax_in_germany,
    confirm,
    mirrored,
    offer_trial,
    open_pages,
    paid,
    sell,
    settings,
    statuses,
)
from tests.billing.cast import open_checkout, pay, publish_all, subscribe

pytestmark = pytest.mark.django_db


def pay_for(organization, new) -> None:
    confirm(new.client_secret)
    sync_subscriptions(mirrored(organization)["customer"])


def before_giving_up(monkeypatch, act) -> None:
    """Let the customer act at the worst moment: Stripe has been asked, and not yet told."""
    real = unfinished.give_up

    def late(subscription):
        act()
        real(subscription)

    monkeypatch.setattr(unfinished, "give_up", late)


def test_the_client_secret_is_that_of_the_first_payment(sandbox, organization, plans):
    publish_all()

    new = create_subscription(organization, plan=plans.pro)

    (intent,) = sandbox.every("payment_intent")
    assert (new.status, new.intent, new.client_secret) == ("incomplete", "payment", intent["client_secret"])
    assert intent["amount"] == 2_900
    assert paid(sandbox) == 0


def test_nothing_is_granted_before_it_is_paid(sandbox, organization, plans):
    publish_all()
    create_subscription(organization, plan=plans.pro)

    entitlement = refresh_entitlement(organization)
    assert (entitlement.plan, entitlement.bought_plan, entitlement.status) == (
        plans.free,
        plans.pro,
        "incomplete",
    )


def test_confirming_the_payment_begins_the_plan(sandbox, organization, plans):
    publish_all()
    pay_for(organization, create_subscription(organization, plan=plans.pro))

    entitlement = refresh_entitlement(organization)
    assert (entitlement.plan, entitlement.status) == (plans.pro, "active")
    assert paid(sandbox) == 2_900


def test_the_card_that_paid_is_kept_for_the_next_payment(sandbox, organization, plans):
    publish_all()
    pay_for(organization, create_subscription(organization, plan=plans.pro))

    sandbox.set_clock(advance=32 * 86_400)

    assert statuses(sandbox) == ["active"]
    assert paid(sandbox) == 2 * 2_900


def test_the_mirrored_subscription_and_invoice_hold_no_client_secret(sandbox, organization, plans):
    publish_all()
    new = create_subscription(organization, plan=plans.pro)
    create_subscription(organization, plan=plans.pro)

    assert new.client_secret not in str(list(djstripe.Subscription.objects.values_list("stripe_data")))
    assert new.client_secret not in str(list(djstripe.Invoice.objects.values_list("stripe_data")))
    assert isinstance(mirrored(organization)["latest_invoice"], str)


def test_repeating_it_gives_the_same_subscription_back(sandbox, organization, plans):
    publish_all()
    first = create_subscription(organization, plan=plans.pro)

    assert create_subscription(organization, plan=plans.pro) == first
    assert statuses(sandbox) == ["incomplete"]


@pytest.mark.parametrize(("plan", "interval"), [("team", "month"), ("pro", "year")])
def test_one_of_another_plan_or_interval_takes_the_unpaid_one_s_place(
    sandbox, organization, plans, plan, interval
):
    publish_all()
    sell(plans.pro, interval="year", unit_amount=29_000)
    first = create_subscription(organization, plan=plans.pro)

    second = create_subscription(organization, plan=getattr(plans, plan), interval=interval)

    assert second.subscription_id != first.subscription_id
    assert statuses(sandbox) == ["incomplete", "incomplete_expired"]
    with pytest.raises(stripe.InvalidRequestError, match="canceled"):
        confirm(first.client_secret)
    pay_for(organization, second)
    assert statuses(sandbox) == ["active", "incomplete_expired"]


def test_an_unpaid_one_at_a_price_that_has_changed_since_is_given_up(sandbox, organization, plans):
    publish_all()
    first = create_subscription(organization, plan=plans.pro)
    plans.pro.prices.filter(meter=None).update(unit_amount=3_900)
    publish_all()

    second = create_subscription(organization, plan=plans.pro)

    assert second.subscription_id != first.subscription_id
    assert statuses(sandbox) == ["incomplete", "incomplete_expired"]


def test_an_unpaid_one_that_was_paid_meanwhile_is_not_given_up(sandbox, organization, plans):
    publish_all()
    confirm(create_subscription(organization, plan=plans.pro).client_secret)

    with pytest.raises(AlreadySubscribed):
        create_subscription(organization, plan=plans.team)

    assert statuses(sandbox) == ["active"]
    assert refresh_entitlement(organization).plan == plans.pro


def test_a_payment_that_comes_after_the_look_keeps_its_subscription(
    sandbox, organization, plans, monkeypatch
):
    publish_all()
    new = create_subscription(organization, plan=plans.pro)
    before_giving_up(monkeypatch, lambda: confirm(new.client_secret))

    with pytest.raises(AlreadySubscribed):
        create_subscription(organization, plan=plans.team)

    assert statuses(sandbox) == ["active"]
    assert paid(sandbox) == 2_900
    assert refresh_entitlement(organization).plan == plans.pro


def test_a_subscriber_cannot_make_another(sandbox, organization, plans):
    subscribe(sandbox, organization, plan=plans.pro)

    with pytest.raises(AlreadySubscribed):
        create_subscription(organization, plan=plans.team)
    assert statuses(sandbox) == ["active"]


def test_open_checkout_pages_are_closed(sandbox, organization, plans):
    publish_all()
    page = open_checkout(organization, plan=plans.pro)
    new = create_subscription(organization, plan=plans.pro)

    assert open_pages(sandbox) == []
    pay(sandbox, page)
    pay_for(organization, new)
    assert statuses(sandbox) == ["active"]


def test_a_page_that_was_paid_is_found(sandbox, organization, plans):
    publish_all()
    pay(sandbox, open_checkout(organization, plan=plans.pro))

    with pytest.raises(AlreadySubscribed):
        create_subscription(organization, plan=plans.pro)
    assert refresh_entitlement(organization).plan == plans.pro


def test_checkout_takes_the_place_of_an_unpaid_subscription(sandbox, organization, plans):
    publish_all()
    new = create_subscription(organization, plan=plans.pro)
    page = open_checkout(organization, plan=plans.pro)

    with pytest.raises(stripe.InvalidRequestError, match="canceled"):
        confirm(new.client_secret)
    pay(sandbox, page)
    assert statuses(sandbox) == ["active", "incomplete_expired"]
    assert paid(sandbox) == 2_900


def test_checkout_finds_that_the_unpaid_subscription_was_paid_meanwhile(
    sandbox, organization, plans, monkeypatch
):
    publish_all()
    new = create_subscription(organization, plan=plans.pro)
    before_giving_up(monkeypatch, lambda: confirm(new.client_secret))

    with pytest.raises(AlreadySubscribed):
        open_checkout(organization, plan=plans.pro)

    assert statuses(sandbox) == ["active"]
    assert open_pages(sandbox) == []


def test_a_card_from_an_earlier_subscription_is_not_charged_unasked(sandbox, organization, plans):
    subscription = subscribe(sandbox, organization, plan=plans.pro)
    api = get_client().v1
    card = api.customers.payment_methods.list(mirrored(organization)["customer"]).data[0]
    api.customers.update(
        mirrored(organization)["customer"], {"invoice_settings": {"default_payment_method": card.id}}
    )
    api.subscriptions.cancel(subscription.id)
    before = paid(sandbox)

    new = create_subscription(organization, plan=plans.team)

    assert (new.status, new.intent) == ("incomplete", "payment")
    assert paid(sandbox) == before
    confirm(new.client_secret, card=card.id)
    assert paid(sandbox) == before + 9_900


def test_a_yearly_fee_has_the_usage_beside_it_by_the_month(sandbox, organization, plans):
    publish_all()
    sell(plans.pro, interval="year", unit_amount=29_000)

    new = create_subscription(organization, plan=plans.pro, interval="year")

    data = get_client().v1.subscriptions.retrieve(new.subscription_id)
    intervals = sorted(
        (item["price"]["recurring"]["usage_type"], item["price"]["recurring"]["interval"])
        for item in data["items"]["data"]
    )
    assert intervals == [("licensed", "year"), ("metered", "month")]
    assert data["billing_mode"]["type"] == "flexible"


def test_a_plan_that_is_not_sold_so_cannot_be_bought(sandbox, organization, plans):
    publish_all()

    with pytest.raises(NotPublished, match="yearly in USD"):
        create_subscription(organization, plan=plans.pro, interval="year")
    with pytest.raises(NotPublished, match="monthly in EUR"):
        create_subscription(organization, plan=plans.pro, currency="eur")
    with pytest.raises(NotPublished):
        create_subscription(organization, plan=plans.free)


def test_another_currency_than_that_of_earlier_invoices_is_refused(sandbox, organization, plans):
    subscription = subscribe(sandbox, organization, plan=plans.pro)
    get_client().v1.subscriptions.cancel(subscription.id)
    sell(plans.pro, currency="eur", unit_amount=2_700)

    with pytest.raises(ChangeRefused, match="You pay in USD") as refused:
        create_subscription(organization, plan=plans.pro, currency="eur")
    assert refused.value.code == "currency_fixed"
    with pytest.raises(ChangeRefused, match="You pay in USD"):
        open_checkout(organization, plan=plans.pro, currency="eur", attempt=SECOND_ATTEMPT)
    assert statuses(sandbox) == ["canceled"]


class TestTax:
    def test_without_an_address_the_customer_is_told_what_is_missing(self, sandbox, organization, plans):
        publish_all()
        charge_tax_in_germany()
        settings(automatic_tax=True)

        with pytest.raises(ChangeRefused, match="billing address") as refused:
            create_subscription(organization, plan=plans.pro)

        assert refused.value.code == "address_required"
        assert statuses(sandbox) == []

    def test_with_an_address_the_tax_is_on_the_first_payment(self, sandbox, organization, plans):
        publish_all()
        charge_tax_in_germany()
        settings(automatic_tax=True)
        with pytest.raises(ChangeRefused):
            create_subscription(organization, plan=plans.pro)
        (customer,) = sandbox.every("customer")
        get_client().v1.customers.update(customer["id"], {"address": {**BERLIN}})

        pay_for(organization, create_subscription(organization, plan=plans.pro))

        assert paid(sandbox) == 3_451  # 2,900 and 19 %


class TestTrial:
    def test_the_client_secret_is_that_of_the_card_s_setup(self, sandbox, organization, plans):
        publish_all()
        offer_trial(plans.pro)

        new = create_subscription(organization, plan=plans.pro)

        (intent,) = sandbox.every("setup_intent")
        assert (new.status, new.intent, new.client_secret) == ("trialing", "setup", intent["client_secret"])
        assert refresh_entitlement(organization).plan == plans.pro

    def test_the_card_that_was_set_up_pays_when_the_trial_ends(self, sandbox, organization, plans):
        publish_all()
        offer_trial(plans.pro)
        confirm(create_subscription(organization, plan=plans.pro).client_secret)
        assert paid(sandbox) == 0

        sandbox.set_clock(advance=15 * 86_400)

        assert (statuses(sandbox), paid(sandbox)) == (["active"], 2_900)

    def test_without_a_card_nothing_is_owed_when_the_trial_ends(self, sandbox, organization, plans):
        publish_all()
        offer_trial(plans.pro)
        create_subscription(organization, plan=plans.pro)

        sandbox.set_clock(advance=15 * 86_400)

        assert statuses(sandbox) == ["canceled"]
        assert [each for each in sandbox.every("invoice") if each["status"] == "open"] == []

    def test_repeating_it_gives_the_same_trial_back(self, sandbox, organization, plans):
        publish_all()
        offer_trial(plans.pro)
        first = create_subscription(organization, plan=plans.pro)

        assert create_subscription(organization, plan=plans.pro) == first
        assert statuses(sandbox) == ["trialing"]

    def test_with_a_trial_under_way_another_plan_is_a_change_and_no_new_subscription(
        self, sandbox, organization, plans
    ):
        publish_all()
        offer_trial(plans.pro)
        create_subscription(organization, plan=plans.pro)

        with pytest.raises(AlreadySubscribed):
            create_subscription(organization, plan=plans.team)
        with pytest.raises(AlreadySubscribed):
            open_checkout(organization, plan=plans.team)
        assert statuses(sandbox) == ["trialing"]
