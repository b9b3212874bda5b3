"""Sessions of the customer portal: one visit by one customer, perhaps for one purpose only."""

from typing import Any

from sandbox.catalog.pricing import get_price
from sandbox.errors import ApiError, missing_parameter, missing_resource
from sandbox.ids import random_text
from sandbox.params import ID, STR, Enum, Int, ListOf, Obj, Str, unsupported
from sandbox.render import expandable
from sandbox.resources.billing_portal_configurations import find_default, get_configuration
from sandbox.routing import Call, post
from sandbox.selling.portal import change_refusal, may_cancel
from sandbox.state import Sandbox
from sandbox.store import Object

CONFIRM_ITEM = Obj({"id!": ID, "price": ID, "quantity": Int(min=0, max=999_999)})
FLOW = Obj(
    {
        "type!": Enum(
            "payment_method_update",
            "subscription_cancel",
            "subscription_update",
            "subscription_update_confirm",
        ),
        "after_completion": Obj(
            {
                "type!": Enum("hosted_confirmation", "portal_homepage", "redirect"),
                "hosted_confirmation": Obj({"custom_message": Str(max=500)}),
                "redirect": Obj({"return_url!": STR}),
            }
        ),
        "subscription_cancel": Obj({"subscription!": ID, **unsupported("retention")}),
        "subscription_update": Obj({"subscription!": ID}),
        "subscription_update_confirm": Obj(
            {
                "subscription!": ID,
                "items!": ListOf(CONFIRM_ITEM),
                "discounts": ListOf(Obj({"coupon": ID, "promotion_code": ID})),
            }
        ),
    }
)
NOT_SAVED = (
    "No configuration provided and your test mode default configuration has not been created. Provide a "
    "configuration or create your default by saving your customer portal settings in test mode at "
    "{url}."
)

# fmt: off
LOCALES = (
    "auto", "bg", "cs", "da", "de", "el", "en", "en-AU", "en-CA", "en-GB", "en-IE", "en-IN",
    "en-NZ", "en-SG", "es", "es-419", "et", "fi", "fil", "fr", "fr-CA", "hr", "hu", "id", "it",
    "ja", "ko", "lt", "lv", "ms", "mt", "nb", "nl", "pl", "pt", "pt-BR", "ro", "ru", "sk", "sl",
    "sv", "th", "tr", "vi", "zh", "zh-HK", "zh-TW",
)
# fmt: on

expandable("billing_portal.session", {"configuration": "billing_portal.configuration"})


@post(
    "/v1/billing_portal/sessions",
    {
        "configuration": ID,
        "customer": ID,
        "flow_data": FLOW,
        "locale": Enum(*LOCALES),
        "return_url": STR,
        **unsupported("customer_account", "on_behalf_of"),
    },
)
def create(call: Call) -> Object:
    state, params = call.state, call.params
    if "customer" not in params:
        raise missing_parameter("customer")
    customer = state.get_customer(params["customer"])
    configuration = _configuration(state, params.get("configuration"))
    return_url = params.get("return_url", configuration["default_return_url"])
    if return_url is not None and not return_url.startswith(("http://", "https://")):
        raise ApiError(f"Not a valid URL: {return_url}", code="url_invalid", param="return_url")
    flow = _flow(state, params["flow_data"], customer, configuration) if "flow_data" in params else None
    secret = f"test_{random_text(40)}"
    return state.create(
        state.new(
            "billing_portal.session",
            configuration=configuration["id"],
            customer=customer["id"],
            customer_account=None,
            flow=flow,
            locale=params.get("locale"),
            on_behalf_of=None,
            return_url=return_url,
            url=f"{state.base_url}/p/session/{secret}",
            _secret=secret,
            # The link lives by the sandbox's own clock: its reader does, whatever clock the customer is on.
            _made_at=state.clock.now(),
            _seen_at=None,
        ),
        event="billing_portal.session.created",
    )


def _configuration(state: Sandbox, identifier: str | None) -> Object:
    if identifier is None:
        found = find_default(state)
        if found is None:
            raise ApiError(NOT_SAVED.format(url=f"{state.base_url}/settings/billing/portal"))
        return found
    configuration = get_configuration(state, identifier, status=400)
    if not configuration["active"]:
        raise ApiError(f"The configuration {identifier} is not active.", param="configuration")
    return configuration


def _flow(state: Sandbox, given: dict[str, Any], customer: Object, configuration: Object) -> Object:
    kind = given["type"]
    for name in ("subscription_cancel", "subscription_update", "subscription_update_confirm"):
        if name in given and name != kind:
            raise ApiError(
                f"`flow_data[{name}]` can only be used when `flow_data[type]` is `{name}`.",
                param=f"flow_data[{name}]",
            )
    flow: Object = {
        "after_completion": _afterwards(given.get("after_completion", {})),
        "subscription_cancel": None,
        "subscription_update": None,
        "subscription_update_confirm": None,
        "type": kind,
    }
    features = configuration["features"]
    if kind == "payment_method_update":
        if not features["payment_method_update"]["enabled"]:
            raise ApiError(
                "The payment method update feature in the portal configuration is disabled.",
                param="flow_data[type]",
            )
        return flow
    if kind not in given:
        raise missing_parameter(f"flow_data[{kind}]")
    details = given[kind]
    where = f"flow_data[{kind}]"
    subscription = state.find("subscription", details["subscription"])
    if subscription is None or subscription["customer"] != customer["id"]:
        raise missing_resource(
            "subscription", details["subscription"], param=f"{where}[subscription]", status=400
        )
    if kind == "subscription_cancel":
        _check_cancel(subscription, features, where=where)
        flow[kind] = {"retention": None, "subscription": subscription["id"]}
    else:
        refusal = change_refusal(state, configuration, subscription)
        if refusal is not None:
            raise ApiError(
                f"This subscription cannot be updated because {refusal}", param=f"{where}[subscription]"
            )
        flow[kind] = {"subscription": subscription["id"]}
    if kind == "subscription_update_confirm":
        flow[kind].update(_confirm(state, details, configuration, subscription, where=where))
    return flow


def _afterwards(given: dict[str, Any]) -> Object:
    kind = given.get("type", "portal_homepage")
    if kind == "redirect" and "redirect" not in given:
        raise missing_parameter("flow_data[after_completion][redirect]")
    return {
        "hosted_confirmation": {"custom_message": given.get("hosted_confirmation", {}).get("custom_message")}
        if kind == "hosted_confirmation"
        else None,
        "redirect": given["redirect"] if kind == "redirect" else None,
        "type": kind,
    }


def _check_cancel(subscription: Object, features: Object, *, where: str) -> None:
    if not features["subscription_cancel"]["enabled"]:
        raise ApiError(
            "This subscription cannot be canceled because the subscription cancel feature in the portal "
            "configuration is disabled.",
            param=f"{where}[subscription]",
        )
    if not may_cancel(subscription):
        raise ApiError(
            "This subscription cannot be canceled because it is already canceled or set to be canceled.",
            param=f"{where}[subscription]",
        )


def _confirm(
    state: Sandbox, details: dict[str, Any], configuration: Object, subscription: Object, *, where: str
) -> Object:
    if len(details["items"]) != 1:
        raise ApiError(
            "The subscription update confirm flow supports exactly one item.", param=f"{where}[items]"
        )
    (wanted,) = details["items"]
    if wanted["id"] not in subscription["_items"]:
        raise missing_resource("subscription item", wanted["id"], param=f"{where}[items][0][id]", status=400)
    item = state.get("subscription_item", wanted["id"])
    price = wanted.get("price", item["price"])
    get_price(state, price, param=f"{where}[items][0][price]")
    offered = {each for product in configuration["_products"] for each in product["prices"]}
    if price != item["price"] and price not in offered:
        raise ApiError(
            f"The item `{item['id']}` cannot be updated to price `{price}` because the configuration "
            f"`{configuration['id']}` does not include the price in its "
            "`features[subscription_update][products]`.",
            param=f"{where}[items][0][price]",
        )
    quantity = wanted.get("quantity", item.get("quantity"))
    discounts = details.get("discounts", [])
    if len(discounts) > 1:
        raise ApiError("You may apply at most one discount.", param=f"{where}[discounts]")
    if (price, quantity) == (item["price"], item.get("quantity")) and not discounts:
        raise ApiError(
            "There are no changes to confirm. The update operation specified on the current subscription "
            "would not result in any changes.",
            param=f"{where}[items]",
        )
    return {
        "discounts": [
            {"coupon": each.get("coupon"), "promotion_code": each.get("promotion_code")} for each in discounts
        ]
        or None,
        "items": [{"id": item["id"], "price": price, "quantity": quantity}],
    }
