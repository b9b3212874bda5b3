"""The customer portal: its configurations and sessions over the API, and its pages."""

from typing import Any

import pytest
import stripe
from werkzeug.test import Client

from sandbox import Sandbox
from tests.sandbox.helpers import DECLINED_CARD, GOOD_CARD, Shop

CHALLENGED = {**GOOD_CARD, "number": "4000002500003155"}
EVERYTHING: dict[str, Any] = {
    "customer_update": {
        "enabled": True,
        "allowed_updates": ["name", "email", "address", "phone", "tax_id"],
    },
    "invoice_history": {"enabled": True},
    "payment_method_update": {"enabled": True},
    "subscription_cancel": {
        "enabled": True,
        "cancellation_reason": {"enabled": True, "options": ["too_expensive", "other"]},
    },
}


def configure(shop: Shop, **features: Any) -> Any:
    return shop.api.billing_portal.configurations.create({"features": {**EVERYTHING, **features}})


def switching(*prices: stripe.Price, **rules: Any) -> dict[str, Any]:
    """Return the feature that lets customers switch between prices of different products."""
    return {
        "enabled": True,
        "default_allowed_updates": ["price"],
        "proration_behavior": "always_invoice",
        "products": [{"product": each.product, "prices": [each.id]} for each in prices],
        **rules,
    }


def visit(shop: Shop, customer: stripe.Customer, configuration: Any, **params: Any) -> str:
    """Return the address of a portal session."""
    session = shop.api.billing_portal.sessions.create(
        {
            "customer": customer.id,
            "configuration": configuration.id,
            "return_url": "http://127.0.0.1/dashboard",
            **params,
        }
    )
    return str(session.url)


def team(shop: Shop, amount: int = 9900, **params: Any) -> stripe.Price:
    return shop.price(amount, product=shop.api.products.create({"name": "Team"}).id, **params)


class TestConfigurations:
    def test_what_is_not_given_is_off(self, shop: Shop) -> None:
        made = shop.api.billing_portal.configurations.create(
            {"features": {"invoice_history": {"enabled": True}}}
        )
        assert (made.active, made.is_default, made.features.invoice_history.enabled) == (True, False, True)
        assert made.features.subscription_cancel.to_dict()["mode"] == "at_period_end"
        assert not made.features.subscription_update.enabled
        assert shop.event_types()[-1] == "billing_portal.configuration.created"

    def test_features_are_needed(self, client: stripe.StripeClient) -> None:
        with pytest.raises(stripe.InvalidRequestError) as refused:
            client.raw_request("post", "/v1/billing_portal/configurations")
        assert refused.value.param == "features"

    def test_an_update_changes_what_it_names(self, shop: Shop) -> None:
        made = configure(shop)
        changed = shop.api.billing_portal.configurations.update(
            made.id,
            {
                "active": False,
                "business_profile": {"headline": "Hello"},
                "features": {"invoice_history": {"enabled": False}},
            },
        )
        assert (changed.active, changed.business_profile.headline) == (False, "Hello")
        assert not changed.features.invoice_history.enabled
        assert changed.features.payment_method_update.enabled
        assert shop.event_types()[-1] == "billing_portal.configuration.updated"
        listed = shop.api.billing_portal.configurations.list({"active": True}).data
        assert listed == []

    def test_products_show_when_they_are_asked_for(self, shop: Shop) -> None:
        price = team(shop)
        made = configure(shop, subscription_update=switching(price))
        assert "products" not in made.features.subscription_update
        shown = shop.api.billing_portal.configurations.retrieve(
            made.id, {"expand": ["features.subscription_update.products"]}
        )
        assert shown.features.subscription_update.products[0].prices == [price.id]

    @pytest.mark.parametrize(
        ("features", "param"),
        [
            (
                {"subscription_update": {"enabled": True, "default_allowed_updates": ["price"]}},
                "features[subscription_update][products]",
            ),
            (
                {"subscription_update": {"enabled": True, "products": []}},
                "features[subscription_update][default_allowed_updates]",
            ),
            (
                {"subscription_cancel": {"enabled": True, "proration_behavior": "create_prorations"}},
                "features[subscription_cancel][proration_behavior]",
            ),
            (
                {
                    "subscription_cancel": {
                        "enabled": True,
                        "mode": "immediately",
                        "proration_behavior": "always_invoice",
                    }
                },
                "features[subscription_cancel][proration_behavior]",
            ),
        ],
    )
    def test_rules_that_do_not_fit_together_are_refused(
        self, shop: Shop, features: dict[str, Any], param: str
    ) -> None:
        with pytest.raises(stripe.InvalidRequestError) as refused:
            shop.api.billing_portal.configurations.create({"features": features})
        assert refused.value.param == param


class TestSessions:
    def test_without_a_saved_configuration_none_opens(self, shop: Shop, browser: Client) -> None:
        customer = shop.customer()
        configure(shop)  # Made over the API, it is nobody's default.
        with pytest.raises(stripe.InvalidRequestError, match="default configuration has not been created"):
            shop.api.billing_portal.sessions.create({"customer": customer.id})

        browser.post("/settings/billing/portal")

        session = shop.api.billing_portal.sessions.create({"customer": customer.id})
        default = shop.api.billing_portal.configurations.list({"is_default": True}).data[0]
        assert session.configuration == default.id
        assert shop.event_types()[-1] == "billing_portal.session.created"
        assert browser.get(session.url).status_code == 200

    def test_a_configuration_that_is_off_opens_none(self, shop: Shop) -> None:
        made = configure(shop)
        shop.api.billing_portal.configurations.update(made.id, {"active": False})
        with pytest.raises(stripe.InvalidRequestError) as refused:
            visit(shop, shop.customer(), made)
        assert refused.value.param == "configuration"

    def test_a_link_nobody_opens_dies_after_five_minutes(
        self, shop: Shop, browser: Client, sandbox: Sandbox
    ) -> None:
        url = visit(shop, shop.customer(), configure(shop))
        sandbox.set_clock(advance=301)
        assert browser.get(url).status_code == 410

    def test_an_opened_link_lives_while_it_is_used(
        self, shop: Shop, browser: Client, sandbox: Sandbox
    ) -> None:
        url = visit(shop, shop.customer(), configure(shop))
        for _ in range(3):
            assert browser.get(url).status_code == 200
            sandbox.set_clock(advance=3000)
        sandbox.set_clock(advance=3601)
        assert browser.get(url).status_code == 410

    def test_a_made_up_link_opens_nothing(self, browser: Client) -> None:
        assert browser.get("/p/session/test_nothing").status_code == 410

    def test_the_login_page_leads_a_customer_to_their_own_portal(self, shop: Shop, browser: Client) -> None:
        shop.customer()
        made = shop.api.billing_portal.configurations.create(
            {"features": EVERYTHING, "login_page": {"enabled": True}}
        )
        assert browser.post(made.login_page.url, data={"email": "nobody"}).status_code == 422
        stranger = browser.post(made.login_page.url, data={"email": "stranger@example.com"}).text
        assert "/p/session/" not in stranger
        page = browser.post(made.login_page.url, data={"email": "ADA@example.com"}).text
        link = page.split('This is the link: <a href="')[1].split('"')[0]
        assert "ada@example.com" in browser.get(link).text
        off = shop.api.billing_portal.configurations.update(made.id, {"login_page": {"enabled": False}})
        assert off.login_page.url is None
        assert browser.get(made.login_page.url).status_code == 404


class TestCards:
    def test_the_first_card_becomes_the_default(self, shop: Shop, browser: Client) -> None:
        customer = shop.customer()
        url = visit(shop, customer, configure(shop))
        assert browser.post(f"{url}/cards/add", data=GOOD_CARD).status_code == 303
        (card,) = shop.api.customers.payment_methods.list(customer.id).data
        assert shop.api.customers.retrieve(customer.id).invoice_settings.default_payment_method == card.id
        assert "Visa ending in 4242" in browser.get(url).text

    def test_a_declined_card_is_not_kept(self, shop: Shop, browser: Client) -> None:
        customer = shop.customer()
        url = visit(shop, customer, configure(shop))
        answer = browser.post(f"{url}/cards/add", data=DECLINED_CARD)
        assert (answer.status_code, "Your card was declined." in answer.text) == (402, True)
        assert shop.api.customers.payment_methods.list(customer.id).data == []

    @pytest.mark.parametrize(("result", "kept"), [("complete", 1), ("fail", 0)])
    def test_a_challenged_card_is_kept_once_its_holder_passes(
        self, shop: Shop, browser: Client, result: str, kept: int
    ) -> None:
        customer = shop.customer()
        url = visit(shop, customer, configure(shop))
        asked = browser.post(f"{url}/cards/add", data=CHALLENGED)
        back = browser.get(browser.post(asked.location, data={"result": result}).location)
        assert ("unable to authenticate" in back.text) == (result == "fail")
        assert len(shop.api.customers.payment_methods.list(customer.id).data) == kept

    def test_another_card_can_be_made_default_and_the_first_removed(
        self, shop: Shop, browser: Client
    ) -> None:
        customer = shop.payer()
        first = customer.invoice_settings.default_payment_method
        second = shop.api.payment_methods.attach("pm_card_mastercard", {"customer": customer.id}).id
        shop.subscription(customer, shop.price())
        url = visit(shop, customer, configure(shop))

        used = browser.post(f"{url}/cards/{first}/remove")
        assert "This card pays for a subscription." in used.text
        browser.post(f"{url}/cards/{second}/default")
        browser.post(f"{url}/cards/{first}/remove")

        assert [each.id for each in shop.api.customers.payment_methods.list(customer.id).data] == [second]

    def test_a_subscription_with_a_card_of_its_own_is_given_another(
        self, shop: Shop, browser: Client
    ) -> None:
        session = shop.checkout(customer=shop.customer().id)
        browser.post(session.url, data=GOOD_CARD)
        done = shop.api.checkout.sessions.retrieve(session.id, {"expand": ["subscription"]})
        card = shop.api.payment_methods.attach("pm_card_mastercard", {"customer": done.customer}).id
        url = visit(shop, shop.api.customers.retrieve(done.customer), configure(shop))
        browser.post(f"{url}/subscriptions/{done.subscription.id}/card", data={"card": card})
        assert shop.api.subscriptions.retrieve(done.subscription.id).default_payment_method == card

    def test_a_stranger_s_card_is_not_found(self, shop: Shop, browser: Client) -> None:
        stranger = shop.payer().invoice_settings.default_payment_method
        url = visit(shop, shop.payer(), configure(shop))
        browser.post(f"{url}/cards/{stranger}/remove")
        assert shop.api.payment_methods.retrieve(stranger).customer is not None


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


class TestFlows:
    def test_a_flow_does_its_one_thing_and_returns(self, shop: Shop, browser: Client) -> None:
        customer = shop.payer()
        subscription = shop.subscription(customer, shop.price())
        url = visit(
            shop,
            customer,
            configure(shop),
            flow_data={
                "type": "subscription_cancel",
                "subscription_cancel": {"subscription": subscription.id},
                "after_completion": {"type": "redirect", "redirect": {"return_url": "http://127.0.0.1/bye"}},
            },
        )
        start = browser.get(url)
        assert start.location == f"{url}/subscriptions/{subscription.id}/cancel"
        assert browser.post(start.location).location == "http://127.0.0.1/bye"

    def test_a_card_of_the_card_flow_becomes_the_default(self, shop: Shop, browser: Client) -> None:
        customer = shop.payer()
        before = customer.invoice_settings.default_payment_method
        url = visit(
            shop,
            customer,
            configure(shop),
            flow_data={
                "type": "payment_method_update",
                "after_completion": {
                    "type": "hosted_confirmation",
                    "hosted_confirmation": {"custom_message": "All set"},
                },
            },
        )
        assert "All set" in browser.post(browser.get(url).location, data=GOOD_CARD).text
        after = shop.api.customers.retrieve(customer.id).invoice_settings.default_payment_method
        assert after not in (before, None)

    def test_a_change_chosen_by_the_seller_is_only_confirmed(self, shop: Shop, browser: Client) -> None:
        customer = shop.payer()
        old, new = shop.price(), team(shop)
        subscription = shop.subscription(customer, old)
        item = subscription["items"].data[0].id
        configuration = configure(shop, subscription_update=switching(old, new))
        flow = {
            "type": "subscription_update_confirm",
            "subscription_update_confirm": {
                "subscription": subscription.id,
                "items": [{"id": item, "price": new.id, "quantity": 1}],
            },
        }
        page = browser.get(browser.get(visit(shop, customer, configuration, flow_data=flow)).location)
        assert "Confirm your updates" in page.text
        flow["subscription_update_confirm"]["items"][0]["price"] = old.id
        with pytest.raises(stripe.InvalidRequestError, match="no changes to confirm"):
            visit(shop, customer, configuration, flow_data=flow)

    def test_a_flow_that_is_not_offered_is_refused(self, shop: Shop) -> None:
        customer = shop.payer()
        made = configure(shop, payment_method_update={"enabled": False})
        with pytest.raises(stripe.InvalidRequestError, match="is disabled"):
            visit(shop, customer, made, flow_data={"type": "payment_method_update"})


class TestDetails:
    def test_what_may_be_changed_is_changed(self, shop: Shop, browser: Client) -> None:
        customer = shop.customer()
        url = visit(shop, customer, configure(shop))
        browser.post(
            f"{url}/details",
            data={
                "name": "Ada GmbH",
                "email": "billing@example.com",
                "phone": "+49301234",
                "line1": "Hauptstr. 1",
                "city": "Berlin",
                "postal_code": "10115",
                "country": "DE",
                "tax_id": "DE123456789",
            },
        )
        now = shop.api.customers.retrieve(customer.id, {"expand": ["tax_ids"]})
        assert (now.name, now.email, now.phone, now.address.city) == (
            "Ada GmbH",
            "billing@example.com",
            "+49301234",
            "Berlin",
        )
        assert now.tax_ids.data[0].value == "DE123456789"
        browser.post(f"{url}/tax_ids/{now.tax_ids.data[0].id}/remove")
        assert shop.api.customers.tax_ids.list(customer.id).data == []

    def test_a_wrong_detail_is_pointed_out_and_nothing_saved(self, shop: Shop, browser: Client) -> None:
        customer = shop.customer()
        url = visit(shop, customer, configure(shop))
        answer = browser.post(f"{url}/details", data={"name": "New", "email": "nobody"})
        assert (answer.status_code, '<a href="#email">' in answer.text) == (422, True)
        assert shop.api.customers.retrieve(customer.id).name is None

    def test_what_may_not_be_changed_is_left_alone(self, shop: Shop, browser: Client) -> None:
        customer = shop.customer()
        rules = {"enabled": True, "allowed_updates": ["phone"]}
        url = visit(shop, customer, configure(shop, customer_update=rules))
        browser.post(f"{url}/details", data={"phone": "1", "email": "thief@example.com"})
        now = shop.api.customers.retrieve(customer.id)
        assert (now.phone, now.email) == ("1", "ada@example.com")

    def test_invoices_are_listed_with_their_pdfs(self, shop: Shop, browser: Client) -> None:
        customer = shop.payer()
        subscription = shop.subscription(customer, shop.price())
        invoice = shop.api.invoices.retrieve(subscription.latest_invoice)
        page = browser.get(visit(shop, customer, configure(shop))).text
        assert invoice.number in page
        assert invoice.invoice_pdf in page

    def test_the_way_back_is_shown(self, shop: Shop, browser: Client) -> None:
        page = browser.get(visit(shop, shop.customer(), configure(shop))).text
        assert 'href="http://127.0.0.1/dashboard"' in page
