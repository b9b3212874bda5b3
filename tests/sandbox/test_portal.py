"""The customer portal: its configurations, sessions and flows."""

from typing import Any

import pytest
import stripe
from werkzeug.test import Client

from sandbox import Sandbox
from tests.sandbox.helpers import GOOD_CARD, Shop
from tests.sandbox.portals import EVERYTHING, configure, switching, team, visit


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

    def test_a_language_that_there_is_not_is_refused(self, shop: Shop) -> None:
        with pytest.raises(stripe.InvalidRequestError) as refused:
            visit(shop, shop.customer(), configure(shop), locale="tlh")
        assert refused.value.param == "locale"
