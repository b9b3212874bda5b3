"""The items of a subscription, one at a time; schedules listed and cancelled."""

import pytest
import stripe

from tests.sandbox.helpers import Shop


def test_an_item_comes_changes_and_goes(shop: Shop) -> None:
    subscription = shop.subscription(shop.payer(), shop.price(3000))
    api = shop.api.subscription_items
    added = api.create({"subscription": subscription.id, "price": shop.price(1000).id, "quantity": 2})
    assert (added.quantity, added.subscription) == (2, subscription.id)
    assert {each.id for each in api.list({"subscription": subscription.id}).data} == {
        subscription["items"].data[0].id,
        added.id,
    }
    assert api.update(added.id, {"quantity": 5}).quantity == 5
    assert api.retrieve(added.id).quantity == 5
    assert api.delete(added.id).deleted
    assert len(shop.api.subscriptions.retrieve(subscription.id)["items"].data) == 1
    with pytest.raises(stripe.InvalidRequestError) as refused:
        api.retrieve(added.id)
    assert refused.value.http_status == 404


def test_a_new_item_is_charged_with_the_renewal_or_at_once(shop: Shop) -> None:
    customer = shop.payer()
    subscription = shop.subscription(customer, shop.price(3000))
    item = {"subscription": subscription.id, "price": shop.price(1000).id}
    shop.api.subscription_items.create({**item, "proration_behavior": "always_invoice"})
    # Added in the first second of the month: the whole of it.
    assert shop.api.invoices.list({"customer": customer.id}).data[0].total == pytest.approx(1000, abs=1)


def test_the_last_item_stays(shop: Shop) -> None:
    subscription = shop.subscription(shop.payer(), shop.price())
    with pytest.raises(stripe.InvalidRequestError, match="at least one"):
        shop.api.subscription_items.delete(subscription["items"].data[0].id)


def test_a_cancelled_schedule_ends_its_subscription(shop: Shop) -> None:
    customer = shop.payer()
    subscription = shop.subscription(customer, shop.price())
    schedule = shop.api.subscription_schedules.create({"from_subscription": subscription.id})
    other = shop.payer()
    assert shop.api.subscription_schedules.list({"customer": other.id}).data == []
    listed = shop.api.subscription_schedules.list({"customer": customer.id}).data
    assert [each.id for each in listed] == [schedule.id]
    cancelled = shop.api.subscription_schedules.cancel(schedule.id)
    assert cancelled.status == "canceled"
    assert shop.api.subscriptions.retrieve(subscription.id).status == "canceled"
    with pytest.raises(stripe.InvalidRequestError):
        shop.api.subscription_schedules.cancel(schedule.id)
