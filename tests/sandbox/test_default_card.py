"""Which card a subscription charges after its first payment."""

from typing import Any

import pytest
import stripe

from sandbox import Sandbox
from tests.sandbox.helpers import Shop

MONTH = 31 * 86400 + 2 * 3600


def confirm(shop: Shop, subscription: Any) -> None:
    """Pay the first invoice as a payer's browser does, by the secret of its payment."""
    secret = subscription.latest_invoice.confirmation_secret.client_secret
    shop.api.payment_intents.confirm(secret.split("_secret_")[0], {"payment_method": "pm_card_visa"})


def begin(shop: Shop, customer: stripe.Customer, **params: Any) -> Any:
    return shop.subscription(
        customer,
        shop.price(),
        payment_behavior="default_incomplete",
        expand=["latest_invoice.confirmation_secret", "pending_setup_intent"],
        **params,
    )


@pytest.mark.parametrize(("saves", "status"), [("on_subscription", "active"), ("off", "past_due")])
def test_a_renewal_finds_the_card_only_where_the_first_payment_saved_it(
    sandbox: Sandbox, shop: Shop, saves: str, status: str
) -> None:
    subscription = begin(shop, shop.customer(), payment_settings={"save_default_payment_method": saves})
    confirm(shop, subscription)
    kept = shop.api.subscriptions.retrieve(subscription.id)
    assert (kept.status, bool(kept.default_payment_method)) == ("active", saves == "on_subscription")

    sandbox.set_clock(advance=MONTH)

    assert shop.api.subscriptions.retrieve(subscription.id).status == status


def test_a_trial_without_a_card_asks_for_one_and_keeps_it(sandbox: Sandbox, shop: Shop) -> None:
    subscription = begin(
        shop,
        shop.customer(),
        trial_period_days=14,
        payment_settings={"save_default_payment_method": "on_subscription"},
    )
    intent = subscription.pending_setup_intent
    assert (intent.status, bool(intent.client_secret)) == ("requires_payment_method", True)

    shop.api.setup_intents.confirm(intent.id, {"payment_method": "pm_card_visa"})

    kept = shop.api.subscriptions.retrieve(subscription.id)
    assert kept.pending_setup_intent is None
    assert kept.default_payment_method is not None
    sandbox.set_clock(advance=15 * 86400)
    assert shop.api.subscriptions.retrieve(subscription.id).status == "active"
    assert shop.api.invoices.retrieve(kept.latest_invoice).amount_paid == 0
    assert shop.api.invoices.list({"subscription": subscription.id}).data[0].amount_paid == 4900


def test_a_customer_with_a_card_is_not_asked_for_one(shop: Shop) -> None:
    assert begin(shop, shop.payer(), trial_period_days=14).pending_setup_intent is None
