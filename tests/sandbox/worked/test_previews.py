"""What a preview says is what the invoice that follows comes to, line by line."""

from typing import Any

from tests.sandbox.worked.life import Life, at

MONEY = (
    "subtotal",
    "subtotal_excluding_tax",
    "total",
    "total_excluding_tax",
    "starting_balance",
    "amount_due",
    "currency",
    "period_start",
    "period_end",
)


def told(invoice: Any) -> tuple[dict[str, Any], list[tuple[Any, ...]]]:
    """Return everything about money on an invoice: its amounts, and its lines in a stable order."""
    lines = sorted(
        (
            line.amount,
            line.subtotal,
            line.quantity,
            line.period.start,
            line.period.end,
            line.pricing.price_details.price,
            line.description,
            sum(each.amount for each in line.discount_amounts),
            sum(each.amount for each in line.taxes),
        )
        for line in invoice.lines.data
    )
    return {name: invoice[name] for name in MONEY}, lines


def preview(life: Life, subscription: Any, **params: Any) -> Any:
    return life.api.invoices.create_preview({"subscription": subscription.id, **params})


def test_the_preview_of_a_renewal_is_the_renewal(life: Life) -> None:
    # May's 49.00.
    subscription = life.subscribe(life.price(4900))
    expected = preview(life, subscription)
    assert (expected.total, expected.amount_due) == (4900, 4900)
    life.advance("2026-05-01T01:00:00")

    assert told(life.last()) == told(expected)


def test_the_preview_of_a_renewal_knows_usage_discount_tax_balance_and_prorations(life: Life) -> None:
    # A proration has its 10 % taken off already: −1350 and 2700. Subtotal: −1350 + 2700 + 6000 + 100 × 10 = 8350.
    # 10 % off 6000 and 1000: 700, leaves 7650. 20 % tax: −270 + 540 + 1080 + 180 = 1530: 9180.
    # Less the balance of 1000: 8180.
    ten = life.api.coupons.create({"percent_off": 10, "duration": "forever"})
    rate = life.api.tax_rates.create({"display_name": "VAT", "percentage": 20, "inclusive": False})
    subscription = life.subscribe(
        life.price(3000),
        life.metered_price(life.meter()),
        discounts=[{"coupon": ten.id}],
        default_tax_rates=[rate.id],
    )
    life.use(100)
    life.advance("2026-04-16")
    life.change(subscription, life.price(6000))
    life.api.customers.balance_transactions.create(life.customer.id, {"amount": -1000, "currency": "usd"})
    life.advance("2026-04-20")

    expected = preview(life, subscription)
    assert (expected.subtotal, expected.total, expected.amount_due) == (8350, 9180, 8180)
    life.advance("2026-05-01T01:00:00")
    assert told(life.last()) == told(expected)


def test_the_preview_of_an_upgrade_is_the_invoice_of_the_upgrade(life: Life) -> None:
    # With 1,701,400 of 2,592,000 seconds left: −3216 + 6498 = 3282.
    subscription = life.subscribe(life.price(4900))
    dearer = life.price(9900)
    life.advance("2026-04-11T07:23:20")
    item = {"id": subscription["items"].data[0].id, "price": dearer.id}
    expected = preview(
        life,
        subscription,
        subscription_details={
            "items": [item],
            "proration_behavior": "always_invoice",
            "proration_date": at("2026-04-11T07:23:20"),
        },
    )
    assert expected.total == 3282
    life.change(subscription, dearer, proration_behavior="always_invoice")

    assert told(life.last()) == told(expected)


def test_the_preview_of_a_change_shows_the_renewal_that_will_carry_it(life: Life) -> None:
    # −1500 + 3000 + 6000 = 7500 on 1 May.
    subscription = life.subscribe(life.price(3000))
    dearer = life.price(6000)
    life.advance("2026-04-16")
    item = {"id": subscription["items"].data[0].id, "price": dearer.id}
    expected = preview(life, subscription, subscription_details={"items": [item]})
    assert expected.total == 7500
    life.change(subscription, dearer)
    life.advance("2026-05-01T01:00:00")

    assert told(life.last()) == told(expected)


def test_a_preview_leaves_no_trace(life: Life) -> None:
    subscription = life.subscribe(life.price(3000))
    item = {"id": subscription["items"].data[0].id, "price": life.price(6000).id}
    before = len(life.api.events.list({"limit": 100}).data)
    preview(
        life, subscription, subscription_details={"items": [item], "proration_behavior": "always_invoice"}
    )

    assert len(life.api.events.list({"limit": 100}).data) == before
    assert life.totals() == [3000]
    assert life.again(subscription)["items"].data[0].price.unit_amount == 3000


def test_a_subscription_can_be_previewed_before_there_is_one(life: Life) -> None:
    # 2 × 4900 = 9800 would be due today.
    price = life.price(4900)
    expected = life.api.invoices.create_preview(
        {
            "customer": life.customer.id,
            "subscription_details": {"items": [{"price": price.id, "quantity": 2}]},
        }
    )
    assert expected.total == 9800
    life.subscribe({"price": price.id, "quantity": 2})

    assert life.totals() == [9800]
