"""Discounts on real invoices: of subscriptions, of their items and of single invoices, over time."""

from typing import Any

import pytest
import stripe

from tests.sandbox.helpers import Shop

DAY = 86400
NEW_YEAR = 1_767_225_600  # 2026-01-01 00:00 UTC
FEBRUARY, MARCH, APRIL = NEW_YEAR + 31 * DAY, NEW_YEAR + 59 * DAY, NEW_YEAR + 90 * DAY


class Timeline:
    """A paying customer on a test clock."""

    def __init__(self, shop: Shop) -> None:
        self.api = shop.api
        self.clock = shop.api.test_helpers.test_clocks.create({"frozen_time": NEW_YEAR}).id
        self.customer = shop.customer(test_clock=self.clock)
        method = shop.api.payment_methods.attach("pm_card_visa", {"customer": self.customer.id})
        shop.api.customers.update(
            self.customer.id, {"invoice_settings": {"default_payment_method": method.id}}
        )

    def advance(self, at: int) -> None:
        # An hour and a minute later the renewal's draft has been finalized and charged.
        self.api.test_helpers.test_clocks.advance(self.clock, {"frozen_time": at + 3660})

    def totals(self) -> list[int]:
        """Return what each invoice came to, oldest first."""
        return [each.total for each in self.invoices()]

    def invoices(self) -> list[stripe.Invoice]:
        return self.api.invoices.list({"customer": self.customer.id}).data[::-1]


@pytest.fixture
def timeline(shop: Shop) -> Timeline:
    return Timeline(shop)


def coupon(shop: Shop, **params: Any) -> str:
    return shop.api.coupons.create(params).id


def test_a_coupon_for_once_lowers_the_first_invoice_alone(shop: Shop, timeline: Timeline) -> None:
    subscription = shop.subscription(
        timeline.customer, shop.price(4900), discounts=[{"coupon": coupon(shop, percent_off=20)}]
    )
    timeline.advance(FEBRUARY)

    # 4900 - 980, then the whole.
    assert timeline.totals() == [3920, 4900]
    assert shop.api.subscriptions.retrieve(subscription.id).discounts == []
    assert shop.event_types().count("customer.discount.created") == 1
    assert shop.event_types().count("customer.discount.deleted") == 1


def test_a_coupon_for_once_waits_for_the_end_of_a_trial(shop: Shop, timeline: Timeline) -> None:
    shop.subscription(
        timeline.customer,
        shop.price(4900),
        trial_end=NEW_YEAR + 14 * DAY,
        discounts=[{"coupon": coupon(shop, percent_off=20)}],
    )
    timeline.advance(NEW_YEAR + 14 * DAY)
    assert timeline.totals() == [0, 3920]


def test_a_coupon_for_two_months_lowers_two_invoices(shop: Shop, timeline: Timeline) -> None:
    shop.subscription(
        timeline.customer,
        shop.price(4900),
        discounts=[
            {
                "coupon": coupon(
                    shop, amount_off=500, currency="usd", duration="repeating", duration_in_months=2
                )
            }
        ],
    )
    for month in (FEBRUARY, MARCH):
        timeline.advance(month)
    # From 1 January to 1 March: the invoices of January and February, not that of March.
    assert timeline.totals() == [4400, 4400, 4900]


def test_a_discount_that_ends_while_an_invoice_is_a_draft_is_kept(shop: Shop, timeline: Timeline) -> None:
    subscription = shop.subscription(timeline.customer, shop.price(4900))
    timeline.api.test_helpers.test_clocks.advance(timeline.clock, {"frozen_time": NEW_YEAR + 1800})
    month = coupon(shop, percent_off=10, duration="repeating", duration_in_months=1)
    shop.api.subscriptions.update(subscription.id, {"discounts": [{"coupon": month}]})

    timeline.advance(FEBRUARY)

    # It ends half an hour into 1 February, between the draft at midnight and its end an hour later.
    assert timeline.totals() == [4900, 4410]
    assert [each.status for each in timeline.invoices()] == ["paid", "paid"]


def test_a_coupon_for_ever_goes_on(shop: Shop, timeline: Timeline) -> None:
    discounts = [{"coupon": coupon(shop, percent_off=33.33, duration="forever")}]
    shop.subscription(timeline.customer, shop.price(1000), discounts=discounts)
    for month in (FEBRUARY, MARCH, APRIL):
        timeline.advance(month)
    # 333.3 off, rounded to 333.
    assert timeline.totals() == [667] * 4


def test_an_item_has_discounts_of_its_own_before_those_of_the_whole(shop: Shop, timeline: Timeline) -> None:
    base, seats = shop.price(2000), shop.price(1000)
    created = shop.api.subscriptions.create(
        {
            "customer": timeline.customer.id,
            "items": [
                {"price": base.id},
                {
                    "price": seats.id,
                    "quantity": 3,
                    "discounts": [{"coupon": coupon(shop, amount_off=600, currency="usd")}],
                },
            ],
            "discounts": [{"coupon": coupon(shop, percent_off=10)}],
            "expand": ["latest_invoice.total_discount_amounts.discount"],
        }
    )
    invoice = created.latest_invoice
    # 3000 - 600 = 2400; ten percent of 2000 and of 2400 is 200 and 240. 2000 + 3000 - 600 - 440 = 3960.
    assert [[each.amount for each in line.discount_amounts] for line in invoice.lines.data] == [
        [200],
        [600, 240],
    ]
    assert (invoice.total, invoice.amount_paid) == (3960, 3960)
    items = [each.discount.subscription_item for each in invoice.total_discount_amounts]
    assert items == [created["items"].data[1].id, None]


def test_a_promotion_code_is_redeemed_by_a_subscription(shop: Shop, timeline: Timeline) -> None:
    code = shop.api.promotion_codes.create(
        {
            "promotion": {"type": "coupon", "coupon": coupon(shop, percent_off=50, duration="forever")},
            "code": "HALF",
            "restrictions": {"first_time_transaction": True},
        }
    )
    price = shop.price(4900)
    first = shop.subscription(
        timeline.customer, price, discounts=[{"promotion_code": code.id}], expand=["discounts"]
    )
    assert first.discounts[0].promotion_code == code.id
    assert timeline.totals() == [2450]
    with pytest.raises(stripe.InvalidRequestError) as caught:
        shop.subscription(timeline.customer, price, discounts=[{"promotion_code": code.id}])
    assert caught.value.code == "promotion_code_customer_not_first_time"
    assert caught.value.param == "discounts[0][promotion_code]"
    assert shop.api.promotion_codes.retrieve(code.id).times_redeemed == 1


def test_a_subscription_below_a_code_s_minimum_is_refused(shop: Shop, timeline: Timeline) -> None:
    code = shop.api.promotion_codes.create(
        {
            "promotion": {"type": "coupon", "coupon": coupon(shop, percent_off=50)},
            "restrictions": {"minimum_amount": 5000, "minimum_amount_currency": "usd"},
        }
    ).id
    discounts = [{"promotion_code": code}]
    for params in ({"price": 4900}, {"price": 9900, "trial_period_days": 7}):
        price = shop.price(params.pop("price"))
        with pytest.raises(stripe.InvalidRequestError, match="minimum amount"):
            shop.subscription(timeline.customer, price, discounts=discounts, **params)
    shop.subscription(timeline.customer, shop.price(5000), discounts=discounts)
    assert timeline.totals() == [2500]


def test_a_discount_given_later_is_in_the_preview_and_in_the_renewal(shop: Shop, timeline: Timeline) -> None:
    subscription = shop.subscription(timeline.customer, shop.price(4900))
    updated = shop.api.subscriptions.update(
        subscription.id, {"discounts": [{"coupon": coupon(shop, percent_off=25)}]}
    )
    preview = shop.api.invoices.create_preview({"subscription": subscription.id})
    timeline.advance(FEBRUARY)

    # 4900 * 0.25 = 1225
    assert len(updated.discounts) == 1
    assert preview.total == 3675
    assert timeline.totals() == [4900, 3675]
    assert shop.event_types().count("customer.discount.created") == 1


def test_a_discount_of_another_currency_is_refused(shop: Shop, timeline: Timeline) -> None:
    euros = coupon(shop, amount_off=500, currency="eur")
    with pytest.raises(stripe.InvalidRequestError) as caught:
        shop.subscription(timeline.customer, shop.price(4900), discounts=[{"coupon": euros}])
    assert caught.value.param == "discounts[0][coupon]"


def test_a_subscription_in_another_currency_of_its_price_is_billed_in_it(
    shop: Shop, timeline: Timeline
) -> None:
    price = shop.price(4900, currency_options={"eur": {"unit_amount": 4500}})
    off = shop.api.coupons.create(
        {"amount_off": 1000, "currency": "usd", "currency_options": {"eur": {"amount_off": 900}}}
    ).id
    shop.subscription(timeline.customer, price, currency="eur", discounts=[{"coupon": off}])
    timeline.advance(FEBRUARY)
    # 4500 - 900, then 4500 without the coupon for once.
    assert timeline.totals() == [3600, 4500]
    assert {each.currency for each in timeline.invoices()} == {"eur"}


def test_a_free_invoice_is_paid_without_a_card(shop: Shop) -> None:
    subscription = shop.subscription(
        shop.customer(),
        shop.price(4900),
        discounts=[{"coupon": coupon(shop, percent_off=100)}],
        expand=["latest_invoice"],
    )
    invoice = subscription.latest_invoice
    assert (subscription.status, invoice.status, invoice.total, invoice.subtotal) == (
        "active",
        "paid",
        0,
        4900,
    )
