"""Changes in mid-period, by the second: a credit for what is not used, a charge for what is new.

April 2026 has 30 days of 86,400 seconds, 2,592,000 in all; 3,000 a month is 100 a day.
"""

from collections.abc import Callable

from tests.sandbox.worked.life import Life, amounts, at, period


def test_an_upgrade_is_billed_at_once_where_asked(life: Life) -> None:
    # 15 of 30 days left: −3000/2 = −1500, +6000/2 = +3000, together 1500.
    subscription = life.subscribe(life.price(3000))
    life.advance("2026-04-16")
    life.change(subscription, life.price(6000), proration_behavior="always_invoice")

    invoice = life.last()
    assert amounts(invoice) == [-1500, 3000]
    assert (invoice.total, invoice.status, invoice.billing_reason) == (1500, "paid", "subscription_update")
    assert {(line.period.start, line.period.end) for line in invoice.lines.data} == {
        (at("2026-04-16"), at("2026-05-01"))
    }
    life.advance("2026-05-01T01:00:00")
    assert life.totals() == [3000, 1500, 6000]


def test_an_upgrade_is_counted_by_the_second(life: Life) -> None:
    # From 11 April 07:23:20 to 1 May 00:00:00: 19 days + 16:36:40 = 1,641,600 + 59,800 = 1,701,400 seconds.
    # 4900 × 1,701,400 / 2,592,000 = 3216.38 → −3216
    # 9900 × 1,701,400 / 2,592,000 = 6498.40 → +6498; together 3282.
    subscription = life.subscribe(life.price(4900))
    life.advance("2026-04-11T07:23:20")
    life.change(subscription, life.price(9900), proration_behavior="always_invoice")

    assert amounts(life.last()) == [-3216, 6498]
    assert life.last().total == 3282


def test_prorations_wait_for_the_renewal_by_default(life: Life) -> None:
    # −3000/2 + 6000/2 = 1500 wait; on 1 May: 6000 + 1500 = 7500.
    subscription = life.subscribe(life.price(3000))
    life.advance("2026-04-16")
    life.change(subscription, life.price(6000))
    assert life.totals() == [3000]

    life.advance("2026-05-01T01:00:00")
    assert life.totals() == [3000, 7500]
    assert amounts(life.last()) == [-1500, 3000, 6000]
    assert sorted(_is_proration(line) for line in life.last().lines.data) == [False, True, True]
    life.advance("2026-06-01T01:00:00")
    assert life.totals()[-1] == 6000


def _is_proration(line) -> bool:
    details = line.parent.subscription_item_details or line.parent.invoice_item_details
    return details.proration


def test_a_downgrade_lowers_the_next_renewal(life: Life) -> None:
    # −6000/2 + 3000/2 = −1500; on 1 May: 3000 − 1500 = 1500.
    subscription = life.subscribe(life.price(6000))
    life.advance("2026-04-16")
    life.change(subscription, life.price(3000))
    life.advance("2026-05-01T01:00:00")

    assert life.totals() == [6000, 1500]
    assert amounts(life.last()) == [-3000, 1500, 3000]


def test_a_downgrade_invoiced_at_once_is_owed_to_the_customer(life: Life) -> None:
    # −3000 + 1500 = −1500: nothing is due, the balance holds −1500; on 1 May 3000 − 1500 = 1500 is charged.
    subscription = life.subscribe(life.price(6000))
    life.advance("2026-04-16")
    life.change(subscription, life.price(3000), proration_behavior="always_invoice")

    invoice = life.last()
    assert (invoice.total, invoice.amount_due, invoice.status) == (-1500, 0, "paid")
    assert life.balance() == -1500
    life.advance("2026-05-01T01:00:00")
    assert (life.last().total, life.last().starting_balance, life.last().amount_paid) == (3000, -1500, 1500)
    assert life.balance() == 0


def test_without_prorations_only_the_next_renewal_is_another(life: Life) -> None:
    subscription = life.subscribe(life.price(3000))
    life.advance("2026-04-16")
    life.change(subscription, life.price(6000), proration_behavior="none")
    life.advance("2026-05-01T01:00:00")

    assert life.totals() == [3000, 6000]
    assert amounts(life.last()) == [6000]


def test_more_seats_are_billed_for_the_rest_of_the_month(life: Life) -> None:
    # 10 of 30 days left: −2 × 3000/3 = −2000, +5 × 3000/3 = +5000; on 1 May: 15000 + 3000 = 18000.
    subscription = life.subscribe({"price": life.price(3000).id, "quantity": 2})
    life.advance("2026-04-21")
    life.change(subscription, quantity=5)
    life.advance("2026-05-01T01:00:00")

    assert life.totals() == [6000, 18000]
    assert amounts(life.last()) == [-2000, 5000, 15000]


def test_a_proration_date_counts_from_another_moment(life: Life) -> None:
    # Asked on the 16th, counted from the 11th, 20 of 30 days left: −2000 + 4000 = 2000.
    subscription = life.subscribe(life.price(3000))
    life.advance("2026-04-16")
    life.change(
        subscription,
        life.price(6000),
        proration_behavior="always_invoice",
        proration_date=at("2026-04-11"),
    )

    assert amounts(life.last()) == [-2000, 4000]
    assert life.last().total == 2000


def test_two_changes_in_one_month_each_count_from_their_own_moment(life: Life) -> None:
    # 11 April, 20 days left: −2000 (of 3000) + 4000 (of 6000)
    # 21 April, 10 days left: −2000 (of 6000) + 3000 (of 9000)
    # 1 May: 9000 + 2000 + 1000 = 12000. All told: 10 days at 100, 10 at 200, 10 at 300 = 6000, plus May 9000.
    subscription = life.subscribe(life.price(3000))
    life.advance("2026-04-11")
    life.change(subscription, life.price(6000))
    life.advance("2026-04-21")
    life.change(subscription, life.price(9000))
    life.advance("2026-05-01T01:00:00")

    assert amounts(life.last()) == [-2000, -2000, 3000, 4000, 9000]
    assert life.totals() == [3000, 12000]
    assert sum(life.totals()) == 10 * 100 + 10 * 200 + 10 * 300 + 9000


def test_there_and_back_again_cancels_out(life: Life) -> None:
    # Up and down in the same second: −1500 + 3000 − 3000 + 1500 = 0.
    subscription = life.subscribe(life.price(3000))
    first = subscription["items"].data[0].price
    life.advance("2026-04-16")
    life.change(subscription, life.price(6000))
    life.change(subscription, first)
    life.advance("2026-05-01T01:00:00")

    assert life.totals() == [3000, 3000]


def test_from_month_to_year_begins_a_new_period_today(life: Life) -> None:
    # −3000/2 = −1500 for the rest of April, +30000 for the year from 16 April: 28500, at once.
    subscription = life.subscribe(life.price(3000))
    life.advance("2026-04-16")
    changed = life.change(subscription, life.price(30000, interval="year"))

    assert period(changed) == ("2026-04-16", "2027-04-16")
    assert life.totals() == [3000, 28500]
    assert amounts(life.last()) == [-1500, 30000]
    assert life.last().status == "paid"


def test_an_item_added_in_mid_month_is_billed_for_its_days(life: Life) -> None:
    # 15 of 30 days of 600: 300; on 1 May: 3000 + 600 + 300 = 3900.
    subscription = life.subscribe(life.price(3000))
    life.advance("2026-04-16")
    changed = life.api.subscriptions.update(subscription.id, {"items": [{"price": life.price(600).id}]})
    assert len(changed["items"].data) == 2
    life.advance("2026-05-01T01:00:00")

    assert life.totals() == [3000, 3900]
    assert amounts(life.last()) == [300, 600, 3000]


def test_an_item_removed_in_mid_month_is_credited_for_its_days(life: Life) -> None:
    # 15 of 30 days of 600: −300; on 1 May: 3000 − 300 = 2700.
    extra = life.price(600)
    subscription = life.subscribe(life.price(3000), extra)
    gone = next(each for each in subscription["items"].data if each.price.id == extra.id)
    life.advance("2026-04-16")
    life.api.subscriptions.update(subscription.id, {"items": [{"id": gone.id, "deleted": True}]})
    life.advance("2026-05-01T01:00:00")

    assert life.totals() == [3600, 2700]
    assert amounts(life.last()) == [-300, 3000]


def test_a_day_of_a_leap_february_is_a_29th(begin: Callable[..., Life]) -> None:
    # From 15 February to 1 March 2028 are 15 of 29 days: −2900 × 15/29 = −1500, +5800 × 15/29 = +3000.
    life = begin("2028-02-01")
    subscription = life.subscribe(life.price(2900))
    life.advance("2028-02-15")
    life.change(subscription, life.price(5800), proration_behavior="always_invoice")

    assert amounts(life.last()) == [-1500, 3000]


def test_a_change_in_the_first_second_credits_all_but_nothing(life: Life) -> None:
    # All of 30 days left: −3000 + 6000.
    subscription = life.subscribe(life.price(3000))
    life.change(subscription, life.price(6000), proration_behavior="always_invoice")

    assert amounts(life.last()) == [-3000, 6000]


def test_a_discount_counts_on_both_sides_of_a_change(life: Life) -> None:
    # Half price: 1500 was paid for April, 15 of 30 days of it are 750; the new price's half is 3000, of which
    # 15 of 30 days are 1500. Together 750.
    coupon = life.api.coupons.create({"percent_off": 50, "duration": "forever"})
    subscription = life.subscribe(life.price(3000), discounts=[{"coupon": coupon.id}])
    life.advance("2026-04-16")
    life.change(subscription, life.price(6000), proration_behavior="always_invoice")

    assert life.totals() == [1500, 750]


def test_a_share_of_a_fraction_of_a_cent_is_rounded_once(life: Life) -> None:
    # 15 of 30 days of 10.5: 5.25 → 5.
    subscription = life.subscribe(life.price(3000))
    life.advance("2026-04-16")
    fraction = life.price(None, unit_amount_decimal="10.5")
    life.api.subscriptions.update(
        subscription.id, {"items": [{"price": fraction.id}], "proration_behavior": "always_invoice"}
    )

    assert amounts(life.last()) == [5]


def test_a_period_begun_anew_in_its_first_second_is_given_back_whole(life: Life) -> None:
    # 30.00 for April, and at once −30.00 and 30.00 again.
    subscription = life.subscribe(life.price(3000))
    life.api.subscriptions.update(subscription.id, {"billing_cycle_anchor": "now"})

    assert amounts(life.last()) == [-3000, 3000]
    assert sum(life.totals()) == 3000


def test_a_rest_that_costs_nothing_after_its_discount_has_its_line(life: Life) -> None:
    # 7.00 off: 23.00 for April; on the 16th half of it is left: −11.50, and half of 7.00 − 7.00 is nothing.
    off = life.api.coupons.create({"amount_off": 700, "currency": "usd", "duration": "forever"})
    subscription = life.subscribe(life.price(3000), discounts=[{"coupon": off.id}])
    life.advance("2026-04-16")
    life.change(subscription, life.price(700), proration_behavior="always_invoice")

    assert amounts(life.last()) == [-1150, 0]
    assert life.balance() == -1150
