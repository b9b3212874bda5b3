"""The customer portal: ending a plan, taking that back, and switching to another."""

import pytest
import stripe
from werkzeug.test import Client

from sandbox import Sandbox
from tests.sandbox.helpers import Shop
from tests.sandbox.portals import configure, switching, team, visit


class TestCancelling:
    def test_a_plan_is_cancelled_at_the_end_of_its_period_and_resumed(
        self, shop: Shop, browser: Client
    ) -> None:
        customer = shop.payer()
        subscription = shop.subscription(customer, shop.price())
        url = visit(shop, customer, configure(shop))
        asked = browser.get(f"{url}/subscriptions/{subscription.id}/cancel")
        assert "too expensive" in asked.text
        end = subscription["items"].data[0].current_period_end

        browser.post(
            f"{url}/subscriptions/{subscription.id}/cancel",
            data={"feedback": "too_expensive", "comment": "Later"},
        )

        ending = shop.api.subscriptions.retrieve(subscription.id)
        # In flexible billing mode the portal sets cancel_at and leaves cancel_at_period_end alone.
        assert (ending.status, ending.cancel_at, ending.cancel_at_period_end) == ("active", end, False)
        assert (ending.cancellation_details.feedback, ending.cancellation_details.comment) == (
            "too_expensive",
            "Later",
        )
        assert "Renew plan" in browser.get(url).text
        browser.post(f"{url}/subscriptions/{subscription.id}/resume")
        assert shop.api.subscriptions.retrieve(subscription.id).cancel_at is None

    def test_a_plan_is_cancelled_now_where_configured(self, shop: Shop, browser: Client) -> None:
        customer = shop.payer()
        subscription = shop.subscription(customer, shop.price())
        rules = {"enabled": True, "mode": "immediately"}
        url = visit(shop, customer, configure(shop, subscription_cancel=rules))
        browser.post(f"{url}/subscriptions/{subscription.id}/cancel")
        assert shop.api.subscriptions.retrieve(subscription.id).status == "canceled"

    def test_nothing_is_cancelled_where_it_is_not_offered(self, shop: Shop, browser: Client) -> None:
        customer = shop.payer()
        subscription = shop.subscription(customer, shop.price())
        url = visit(shop, customer, configure(shop, subscription_cancel={"enabled": False}))
        assert "Cancel plan" not in browser.get(url).text
        assert browser.post(f"{url}/subscriptions/{subscription.id}/cancel").status_code == 403
        assert shop.api.subscriptions.retrieve(subscription.id).cancel_at is None

    def test_a_stranger_s_subscription_is_not_found(self, shop: Shop, browser: Client) -> None:
        theirs = shop.subscription(shop.payer(), shop.price())
        url = visit(shop, shop.payer(), configure(shop))
        assert browser.get(f"{url}/subscriptions/{theirs.id}/cancel").status_code == 404


class TestSwitching:
    def test_the_preview_is_what_is_charged(self, shop: Shop, browser: Client, sandbox: Sandbox) -> None:
        sandbox.set_clock(frozen_at=1_767_225_600)  # 1 January 2026
        customer = shop.payer()
        old, new = shop.price(3100), team(shop, 6200)
        subscription = shop.subscription(customer, old)
        url = visit(shop, customer, configure(shop, subscription_update=switching(old, new)))
        browser.get(url)
        sandbox.set_clock(frozen_at=1_767_225_600 + 1860)
        page = f"{url}/subscriptions/{subscription.id}/confirm"

        preview = browser.get(f"{page}?price={new.id}")
        answer = browser.post(page, data={"price": new.id})

        # 1860 s of 31 days are gone: the rest is 2677140/2678400. 6200 × rest = 6195.69, 3100 × rest = 3097.85.
        assert answer.status_code == 303
        changed = shop.api.subscriptions.retrieve(subscription.id, {"expand": ["latest_invoice"]})
        assert changed["items"].data[0].price.id == new.id
        invoice = changed.latest_invoice
        assert (invoice.amount_due, invoice.status) == (6196 - 3098, "paid")
        assert "$30.98" in preview.text

    def test_a_declined_payment_leaves_the_plan_as_it_was(self, shop: Shop, browser: Client) -> None:
        customer = shop.payer()
        old, new = shop.price(), team(shop)
        subscription = shop.subscription(customer, old)
        bad = shop.api.payment_methods.attach("pm_card_chargeCustomerFail", {"customer": customer.id}).id
        shop.api.customers.update(customer.id, {"invoice_settings": {"default_payment_method": bad}})
        url = visit(shop, customer, configure(shop, subscription_update=switching(old, new)))
        answer = browser.post(f"{url}/subscriptions/{subscription.id}/confirm", data={"price": new.id})
        assert (answer.status_code, "Your card was declined." in answer.text) == (422, True)
        same = shop.api.subscriptions.retrieve(subscription.id)
        assert (same["items"].data[0].price.id, same.pending_update) == (old.id, None)

    def test_a_price_that_is_not_offered_cannot_be_had(self, shop: Shop, browser: Client) -> None:
        customer = shop.payer()
        old, new, secret = shop.price(), team(shop), team(shop, 100)
        subscription = shop.subscription(customer, old)
        url = visit(shop, customer, configure(shop, subscription_update=switching(old, new)))
        browser.post(f"{url}/subscriptions/{subscription.id}/confirm", data={"price": secret.id})
        assert shop.api.subscriptions.retrieve(subscription.id)["items"].data[0].price.id == old.id

    def test_a_downgrade_waits_for_the_end_of_the_period_where_configured(
        self, shop: Shop, browser: Client
    ) -> None:
        customer = shop.payer()
        old, new = shop.price(), team(shop, 900)
        subscription = shop.subscription(customer, old)
        rules = switching(
            old, new, schedule_at_period_end={"conditions": [{"type": "decreasing_item_amount"}]}
        )
        url = visit(shop, customer, configure(shop, subscription_update=rules))
        page = f"{url}/subscriptions/{subscription.id}/confirm"
        assert "Nothing is due today." in browser.get(f"{page}?price={new.id}").text

        browser.post(page, data={"price": new.id})

        kept = shop.api.subscriptions.retrieve(subscription.id, {"expand": ["schedule"]})
        assert kept["items"].data[0].price.id == old.id
        assert kept.schedule.phases[1]["items"][0].price == new.id
        assert "Changes to Team at $9.00 per month" in browser.get(url).text
        browser.post(f"{url}/subscriptions/{subscription.id}/keep")
        assert shop.api.subscriptions.retrieve(subscription.id).schedule is None

    def test_usage_based_and_several_prices_cannot_be_switched(self, shop: Shop, browser: Client) -> None:
        customer = shop.payer()
        flat, new = shop.price(), team(shop)
        metered = shop.metered_price(shop.meter())
        subscription = shop.api.subscriptions.create(
            {"customer": customer.id, "items": [{"price": flat.id}, {"price": metered.id}]}
        )
        configuration = configure(shop, subscription_update=switching(flat, new))
        url = visit(shop, customer, configuration)
        assert "Update plan" not in browser.get(url).text
        assert browser.get(f"{url}/subscriptions/{subscription.id}/update").status_code == 403
        with pytest.raises(stripe.InvalidRequestError, match="cannot be updated"):
            visit(
                shop,
                customer,
                configuration,
                flow_data={
                    "type": "subscription_update",
                    "subscription_update": {"subscription": subscription.id},
                },
            )
