from typing import Any

import pytest
import stripe
from werkzeug.test import Client

from sandbox import Sandbox
from sandbox.transport import SandboxHTTPClient
from tests.sandbox.helpers import KEY, Shop


def test_an_empty_sandbox_needs_no_key_for_its_health_and_one_for_its_api(browser: Client) -> None:
    assert browser.get("/healthz").status_code == 200
    assert browser.get("/v1/account").status_code == 401


@pytest.mark.parametrize("key", ["sk_live_0123456789abcdefghijklmnop", "nonsense"])
def test_a_live_or_malformed_key_is_refused(transport: SandboxHTTPClient, key: str) -> None:
    with pytest.raises(stripe.AuthenticationError):
        stripe.StripeClient(key, http_client=transport).v1.customers.list()


@pytest.mark.parametrize("version", ["2024-06-20", "2026-05-27.clover", "dahlia"])
def test_another_major_version_is_refused(transport: SandboxHTTPClient, version: str) -> None:
    client = stripe.StripeClient(KEY, http_client=transport, stripe_version=version)
    with pytest.raises(stripe.InvalidRequestError, match="Invalid Stripe API version"):
        client.v1.customers.list()


def test_every_answer_carries_a_request_id_and_the_version(shop: Shop) -> None:
    headers = shop.customer().last_response.headers
    assert headers["Request-Id"].startswith("req_")
    assert headers["Stripe-Version"] == stripe.api_version


def test_the_account_is_one_and_stable(client: stripe.StripeClient) -> None:
    account = client.v1.accounts.retrieve_current()
    assert client.v1.accounts.retrieve(account.id).id == account.id
    client.v1.customers.list(options={"stripe_account": account.id})
    with pytest.raises(stripe.PermissionError):
        client.v1.customers.list(options={"stripe_account": "acct_other"})


def test_unknown_parameters_are_refused_at_every_depth(shop: Shop) -> None:
    for params, name in (
        ({"favourite": "blue"}, "favourite"),
        ({"address": {"planet": "Mars"}}, "address[planet]"),
        (
            {"invoice_settings": {"custom_fields": [{"nam": "a", "value": "b"}]}},
            "invoice_settings[custom_fields][0][nam]",
        ),
    ):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            shop.api.customers.create(params)
        assert refused.value.code == "parameter_unknown"
        assert refused.value.user_message == f"Received unknown parameter: {name}"


def test_a_parameter_stripe_takes_and_the_sandbox_does_not_is_refused_by_name(shop: Shop) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="does not support the parameter source"):
        shop.api.customers.create({"source": "tok_visa"})


def test_a_missing_parameter_is_named(shop: Shop) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        shop.api.products.create({})
    assert (refused.value.code, refused.value.param) == ("parameter_missing", "name")


def test_a_missing_thing_is_a_404_that_names_it(shop: Shop) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        shop.api.customers.retrieve("cus_x")
    assert (refused.value.http_status, refused.value.code) == (404, "resource_missing")
    assert refused.value.user_message == "No such customer: 'cus_x'"


@pytest.mark.parametrize(
    ("create", "params"),
    [
        ("products", {"name": "Pro"}),
        ("payment_methods", {"type": "card", "card": {"token": "tok_visa"}}),
        ("setup_intents", {}),
        ("tax_rates", {"display_name": "VAT", "inclusive": False, "percentage": 20}),
    ],
)
def test_metadata_cannot_be_unset_where_there_is_none_yet(
    shop: Shop, create: str, params: dict[str, Any]
) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        getattr(shop.api, create).create({**params, "metadata": ""})
    assert (refused.value.code, refused.value.param) == ("parameter_invalid_empty", "metadata")


def test_metadata_merges_and_an_empty_value_unsets(shop: Shop) -> None:
    customer = shop.customer(metadata={"a": "1", "b": "2"})
    changed = shop.api.customers.update(customer.id, {"metadata": {"b": "", "c": "3"}})
    assert changed.metadata.to_dict() == {"a": "1", "c": "3"}
    assert shop.api.customers.update(customer.id, {"metadata": ""}).metadata.to_dict() == {}


def test_a_nullable_field_is_unset_by_an_empty_string_and_a_required_one_is_not(shop: Shop) -> None:
    customer = shop.customer(name="Ada")
    assert shop.api.customers.update(customer.id, {"name": ""}).name is None
    product = shop.api.products.create({"name": "Pro"})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        shop.api.products.update(product.id, {"name": ""})
    assert refused.value.code == "parameter_invalid_empty"


def test_lists_come_newest_first_in_pages(shop: Shop) -> None:
    ids = [shop.customer().id for _ in range(5)][::-1]
    first = shop.api.customers.list({"limit": 2})
    assert [each.id for each in first.data] == ids[:2]
    assert first.has_more
    after = shop.api.customers.list({"limit": 2, "starting_after": ids[1]})
    assert [each.id for each in after.data] == ids[2:4]
    before = shop.api.customers.list({"limit": 2, "ending_before": ids[3]})
    assert [each.id for each in before.data] == ids[1:3]
    assert [each.id for each in first.auto_paging_iter()] == ids


@pytest.mark.parametrize("limit", [0, 101])
def test_a_page_holds_one_to_a_hundred(shop: Shop, limit: int) -> None:
    with pytest.raises(stripe.InvalidRequestError):
        shop.api.customers.list({"limit": limit})


def test_related_objects_expand_to_four_levels(shop: Shop) -> None:
    subscription = shop.subscription(shop.payer(), shop.price())
    listed = shop.api.subscriptions.list(
        {"expand": ["data.latest_invoice.customer", "data.default_payment_method"]}
    )
    assert listed.data[0].latest_invoice.customer.email == "ada@example.com"
    shown = shop.api.subscriptions.retrieve(subscription.id, {"expand": ["items.data.price.product"]})
    assert shown["items"].data[0].price.product.name == "Pro"
    with pytest.raises(stripe.InvalidRequestError, match="more than 4 levels"):
        shop.api.subscriptions.list({"expand": ["data.items.data.price.product"]})
    for path in ("latest_invoice.lines.data.pricing.price_details", "status", "nothing"):
        with pytest.raises(stripe.InvalidRequestError):
            shop.api.subscriptions.retrieve(subscription.id, {"expand": [path]})


def test_customers_are_found_by_metadata_and_email(shop: Shop) -> None:
    wanted = shop.customer(email="it's@example.com", metadata={"organization": "Ab1"})
    shop.customer()
    for query in (
        "metadata['organization']:'Ab1'",
        'email:"it\'s@example.com"',
        "email~'example' AND metadata['organization']:'Ab1'",
    ):
        found = shop.api.customers.search({"query": query})
        assert [each.id for each in found.data] == [wanted.id], query
    with pytest.raises(stripe.InvalidRequestError):
        shop.api.customers.search({"query": "shoe size = 9"})


def test_a_deleted_customer_leaves_a_stub_and_no_live_subscription(shop: Shop) -> None:
    customer = shop.payer()
    subscription = shop.subscription(customer, shop.price())
    assert shop.api.customers.delete(customer.id).deleted
    assert shop.api.customers.retrieve(customer.id).deleted
    assert shop.api.customers.list().data == []
    assert shop.api.subscriptions.retrieve(subscription.id).status == "canceled"


def test_a_lookup_key_moves_only_when_told_to(shop: Shop) -> None:
    old = shop.price(lookup_key="pro")
    with pytest.raises(stripe.InvalidRequestError, match="already uses that lookup key"):
        shop.price(lookup_key="pro")
    new = shop.price(lookup_key="pro", transfer_lookup_key=True)
    assert [each.id for each in shop.api.prices.list({"lookup_keys": ["pro"]}).data] == [new.id]
    assert shop.api.prices.retrieve(old.id).lookup_key is None


def test_tiers_show_when_asked_for(shop: Shop) -> None:
    price = shop.metered_price(shop.meter())
    assert "tiers" not in price
    tiers = shop.api.prices.retrieve(price.id, {"expand": ["tiers"]}).tiers
    assert [(tier.up_to, str(tier.unit_amount_decimal)) for tier in tiers] == [(10_000, "0"), (None, "0.05")]


def test_a_failed_change_leaves_nothing_behind(shop: Shop, sandbox: Sandbox) -> None:
    before = sandbox.store.count("event")
    with pytest.raises(stripe.CardError):
        shop.api.customers.create({"email": "x@example.com", "payment_method": "pm_card_chargeDeclined"})
    assert shop.api.customers.list().data == []
    assert sandbox.store.count("event") == before


def test_parameters_that_are_given_twice_or_torn_are_refused(browser: Client) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    for body in ("address=x&address[city]=Rome", "address[city", "a[b]c=1", "metadata" + "[a]" * 20 + "=1"):
        refused = browser.post(
            "/v1/customers",
            data=body,
            content_type="application/x-www-form-urlencoded",
            headers=headers,
        )
        assert refused.status_code == 400, body
        assert (refused.json or {})["error"]["type"] == "invalid_request_error"


def test_a_query_is_read_on_get_and_delete(browser: Client, shop: Shop) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    subscription = shop.subscription(shop.payer(), shop.price())
    listed = browser.get("/v1/subscriptions?limit=1&expand[]=data.customer", headers=headers)
    assert (listed.json or {})["data"][0]["customer"]["object"] == "customer"
    ended = browser.delete(f"/v1/subscriptions/{subscription.id}?expand[0]=customer", headers=headers)
    assert (ended.json or {})["customer"]["object"] == "customer"


def test_a_declined_card_is_a_402_with_its_decline_code(shop: Shop) -> None:
    with pytest.raises(stripe.CardError) as declined:
        shop.api.payment_methods.attach("pm_card_chargeDeclined", {"customer": shop.customer().id})
    error = declined.value.error
    assert error is not None
    assert declined.value.http_status == 402
    assert (error.type, error.code, error.decline_code) == ("card_error", "card_declined", "generic_decline")
    assert error.doc_url == "https://docs.stripe.com/error-codes#card-declined"


def test_an_address_that_is_not_there_is_a_404(client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="Unrecognized request URL") as refused:
        client.raw_request("get", "/v1/unicorns")
    assert refused.value.http_status == 404


def test_ids_carry_stripes_prefixes(shop: Shop) -> None:
    subscription = shop.subscription(shop.payer(), shop.price())
    invoice = shop.api.invoices.retrieve(subscription.latest_invoice)
    for identifier, prefix in (
        (subscription.customer, "cus_"),
        (subscription.id, "sub_"),
        (subscription["items"].data[0].id, "si_"),
        (subscription["items"].data[0].price.id, "price_"),
        (invoice.id, "in_"),
        (invoice.lines.data[0].id, "il_"),
        (shop.api.events.list().data[0].id, "evt_"),
        (shop.meter().id, "mtr_"),
    ):
        assert str(identifier).startswith(prefix)


def test_metadata_has_limits(shop: Shop) -> None:
    for metadata in ({"k" * 41: "v"}, {"k": "v" * 501}, {str(n) + "k": "v" for n in range(51)}):
        with pytest.raises(stripe.InvalidRequestError):
            shop.customer(metadata=metadata)


def test_a_cursor_that_names_nothing_and_two_cursors_are_refused(shop: Shop) -> None:
    customer = shop.customer().id
    for cursors in ({"starting_after": "cus_none"}, {"starting_after": customer, "ending_before": customer}):
        with pytest.raises(stripe.InvalidRequestError):
            shop.api.customers.list(cursors)


def test_names_and_numbers_are_read_in_plain_digits_only(browser: Client) -> None:
    access = {"Authorization": f"Bearer {KEY}"}
    for form, name in (
        ({"metadata[²]": "1", "address[²]": "1"}, "address[²]"),
        ({"balance": "٣"}, "balance"),
        ({"preferred_locales[" + "9" * 5000 + "]": "en"}, "preferred_locales"),
    ):
        refused = browser.post("/v1/customers", data=form, headers=access)
        assert (refused.status_code, (refused.json or {})["error"]["param"]) == (400, name)


def test_a_time_in_milliseconds_is_refused_by_name(shop: Shop) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        shop.api.customers.list({"created": {"gte": 1_800_000_000_000}})
    assert refused.value.param == "created"
    phases = [{"items": [{"price": shop.price().id}]}]
    with pytest.raises(stripe.InvalidRequestError) as refused:
        shop.api.subscription_schedules.create(
            {"customer": shop.payer().id, "start_date": 1_000_000_000_000, "phases": phases}  # type: ignore[typeddict-item]
        )
    assert refused.value.param == "start_date"
