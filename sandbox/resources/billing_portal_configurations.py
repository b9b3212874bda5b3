"""Configurations of the customer portal: what its visitors may do."""

from typing import Any

from sandbox.catalog.pricing import get_price
from sandbox.errors import ApiError, missing_parameter, missing_resource
from sandbox.ids import random_text
from sandbox.params import (
    BOOL,
    ID,
    METADATA,
    NEW_METADATA,
    STR,
    EmptyOr,
    Enum,
    Int,
    ListOf,
    Obj,
    Str,
    Table,
    Type,
    merge_metadata,
    unsupported,
)
from sandbox.render import included
from sandbox.routing import Call, get, lists, post
from sandbox.state import Sandbox
from sandbox.store import Object

REASONS = (
    "customer_service",
    "low_quality",
    "missing_features",
    "other",
    "switched_service",
    "too_complex",
    "too_expensive",
    "unused",
)
MAX_PRODUCTS = 10
PRODUCT = Obj(
    {
        "adjustable_quantity": Obj(
            {"enabled!": BOOL, "maximum": Int(min=1, max=999_999), "minimum": Int(min=0)}
        ),
        "prices!": ListOf(ID),
        "product!": ID,
    }
)


def _features(mark: str) -> Table:
    """Return the table of features; `mark` is "!" where each feature must say whether it is enabled."""
    conditions: Type = ListOf(Obj({"type!": Enum("decreasing_item_amount", "shortening_interval")}))
    return {
        "customer_update": Obj(
            {
                "allowed_updates": EmptyOr(
                    ListOf(Enum("address", "email", "name", "phone", "shipping", "tax_id"))
                ),
                f"enabled{mark}": BOOL,
            }
        ),
        "invoice_history": Obj({"enabled!": BOOL}),
        "payment_method_update": Obj({"enabled!": BOOL, **unsupported("payment_method_configuration")}),
        "subscription_cancel": Obj(
            {
                "cancellation_reason": Obj(
                    {f"options{mark}": EmptyOr(ListOf(Enum(*REASONS))), "enabled!": BOOL}
                ),
                f"enabled{mark}": BOOL,
                "mode": Enum("at_period_end", "immediately"),
                "proration_behavior": Enum("always_invoice", "create_prorations", "none"),
            }
        ),
        "subscription_update": Obj(
            {
                "billing_cycle_anchor": Enum("now", "unchanged"),
                "default_allowed_updates": EmptyOr(ListOf(Enum("price", "promotion_code", "quantity"))),
                f"enabled{mark}": BOOL,
                "products": EmptyOr(ListOf(PRODUCT)),
                "proration_behavior": Enum("always_invoice", "create_prorations", "none"),
                "schedule_at_period_end": Obj({"conditions": conditions if mark else EmptyOr(conditions)}),
                "trial_update_behavior": Enum("continue_trial", "end_trial"),
            }
        ),
    }


PROFILE: Type = Obj(
    {
        "headline": EmptyOr(Str(max=60)),
        "privacy_policy_url": EmptyOr(STR),
        "terms_of_service_url": EmptyOr(STR),
    }
)
COMMON: Table = {
    "business_profile": PROFILE,
    "default_return_url": EmptyOr(STR),
    "login_page": Obj({"enabled!": BOOL}),
    "metadata": METADATA,
    "name": EmptyOr(Str(max=256)),
}
OFF: dict[str, Object] = {
    "customer_update": {"allowed_updates": [], "enabled": False},
    "invoice_history": {"enabled": False},
    "payment_method_update": {"enabled": False, "payment_method_configuration": None},
    "subscription_cancel": {
        "cancellation_reason": {"enabled": False, "options": list(REASONS)},
        "enabled": False,
        "mode": "at_period_end",
        "proration_behavior": "none",
    },
    "subscription_update": {
        "billing_cycle_anchor": None,
        "default_allowed_updates": [],
        "enabled": False,
        "proration_behavior": "none",
        "schedule_at_period_end": {"conditions": []},
        "trial_update_behavior": "end_trial",
    },
}

included(
    "billing_portal.configuration",
    "features.subscription_update.products",
    lambda state, configuration: configuration["_products"],
)


def new_configuration(state: Sandbox, params: dict[str, Any], *, is_default: bool = False) -> Object:
    """Store, tell of and return a configuration. Raises ApiError for features that do not fit together."""
    configuration = state.new(
        "billing_portal.configuration",
        active=True,
        application=None,
        business_profile={"headline": None, "privacy_policy_url": None, "terms_of_service_url": None},
        default_return_url=None,
        features={name: {**feature} for name, feature in OFF.items()},
        is_default=is_default,
        login_page={"enabled": False, "url": None},
        metadata={},
        name=None,
        updated=state.now(),
        _products=[],
    )
    _apply(state, configuration, params)
    return state.create(configuration, event="billing_portal.configuration.created")


def _apply(state: Sandbox, configuration: Object, params: dict[str, Any]) -> None:
    for name in ("active", "default_return_url", "name"):
        if name in params:
            configuration[name] = params[name]
    _check_url(params.get("default_return_url"), param="default_return_url")
    profile = params.get("business_profile", {})
    for name in ("privacy_policy_url", "terms_of_service_url"):
        _check_url(profile.get(name), param=f"business_profile[{name}]")
    configuration["business_profile"] = {**configuration["business_profile"], **profile}
    if "metadata" in params:
        configuration["metadata"] = merge_metadata(configuration["metadata"], params["metadata"])
    if "login_page" in params:
        enabled = params["login_page"]["enabled"]
        url = configuration["login_page"]["url"] or f"{state.base_url}/p/login/test_{random_text(18)}"
        configuration["login_page"] = {"enabled": enabled, "url": url if enabled else None}
    for name, given in params.get("features", {}).items():
        _FEATURES.get(name, _plain)(state, configuration, name, given)


def _check_url(url: str | None, *, param: str) -> None:
    if url is not None and not url.startswith(("http://", "https://")):
        raise ApiError("Not a valid URL", code="url_invalid", param=param)


def _plain(state: Sandbox, configuration: Object, name: str, given: dict[str, Any]) -> None:
    given = {key: [] if key == "allowed_updates" and value is None else value for key, value in given.items()}
    configuration["features"][name] = {**configuration["features"][name], **given}


def _cancel(state: Sandbox, configuration: Object, name: str, given: dict[str, Any]) -> None:
    now: Object = {**configuration["features"][name], **given}
    if "cancellation_reason" in given:
        reason = {**configuration["features"][name]["cancellation_reason"], **given["cancellation_reason"]}
        now["cancellation_reason"] = {**reason, "options": reason["options"] or []}
    where = f"features[{name}][proration_behavior]"
    if now["proration_behavior"] == "always_invoice":
        raise ApiError(
            "`always_invoice` is not supported for subscription cancellations. Use `create_prorations` or "
            "`none`.",
            param=where,
        )
    if now["proration_behavior"] == "create_prorations" and now["mode"] == "at_period_end":
        raise ApiError(
            "You can only create prorations when `features[subscription_cancel][mode]` is `immediately`.",
            param=where,
        )
    configuration["features"][name] = now


def _update(state: Sandbox, configuration: Object, name: str, given: dict[str, Any]) -> None:
    products = given.pop("products", configuration["_products"]) or []
    now: Object = {**configuration["features"][name], **given}
    now["default_allowed_updates"] = now["default_allowed_updates"] or []
    now["schedule_at_period_end"] = {"conditions": now["schedule_at_period_end"].get("conditions") or []}
    where = f"features[{name}]"
    if now["enabled"]:
        if not now["default_allowed_updates"]:
            raise missing_parameter(f"{where}[default_allowed_updates]")
        if not products:
            raise missing_parameter(f"{where}[products]")
    if len(products) > MAX_PRODUCTS:
        raise ApiError(f"You may provide at most {MAX_PRODUCTS} products.", param=f"{where}[products]")
    configuration["features"][name] = now
    configuration["_products"] = [
        _product(state, each, where=f"{where}[products][{index}]") for index, each in enumerate(products)
    ]


def _product(state: Sandbox, given: dict[str, Any], *, where: str) -> Object:
    product = state.find("product", given["product"])
    if product is None or product.get("deleted"):
        raise missing_resource("product", given["product"], param=f"{where}[product]", status=400)
    rhythms = set()
    for index, each in enumerate(given["prices"]):
        param = f"{where}[prices][{index}]"
        price = get_price(state, each, param=param)
        if price["product"] != product["id"]:
            raise ApiError(f"The price {each} does not belong to the product {product['id']}.", param=param)
        if price["type"] != "recurring":
            raise ApiError(f"The price {each} is not recurring.", param=param)
        rhythms.add((price["currency"], price["recurring"]["interval"], price["recurring"]["interval_count"]))
    if len(rhythms) < len(given["prices"]):
        # The portal tells a product's prices apart by their interval alone.
        raise ApiError(
            "You cannot provide several prices of one product with the same billing interval.",
            param=f"{where}[prices]",
        )
    adjustable = given.get("adjustable_quantity", {"enabled": False})
    return {
        "adjustable_quantity": {
            "enabled": adjustable["enabled"],
            "maximum": adjustable.get("maximum"),
            "minimum": adjustable.get("minimum", 1),
        },
        "prices": list(given["prices"]),
        "product": product["id"],
    }


_FEATURES = {"subscription_cancel": _cancel, "subscription_update": _update}


def get_configuration(state: Sandbox, identifier: str, *, status: int = 404) -> Object:
    """Return a configuration. Raises ApiError (`resource_missing`)."""
    return state.get(
        "billing_portal.configuration",
        identifier,
        noun="configuration",
        param="configuration",
        status=status,
    )


def find_default(state: Sandbox) -> Object | None:
    """Return the configuration that sessions use where they name none, if it has been made."""
    for each in state.every("billing_portal.configuration"):
        if each["is_default"]:
            return each
    return None


@post(
    "/v1/billing_portal/configurations",
    {**COMMON, "metadata": NEW_METADATA, "features!": Obj(_features("!"))},
)
def create(call: Call) -> Object:
    return new_configuration(call.state, call.params)


@get("/v1/billing_portal/configurations/<id>")
def retrieve(call: Call) -> Object:
    return get_configuration(call.state, call.args["id"])


@post(
    "/v1/billing_portal/configurations/<id>",
    {**COMMON, "active": BOOL, "features": Obj(_features(""))},
)
def update(call: Call) -> Object:
    state = call.state
    configuration = get_configuration(state, call.args["id"])
    if configuration["is_default"] and call.params.get("active") is False:
        raise ApiError("You cannot deactivate the default configuration.", param="active")
    before = state.render(configuration)
    _apply(state, configuration, call.params)
    configuration["updated"] = state.now()
    return state.update(configuration, before=before, event="billing_portal.configuration.updated")


@lists("/v1/billing_portal/configurations", {"active": BOOL, "is_default": BOOL})
def index(call: Call) -> Object:
    params = call.params
    return call.page(
        [
            each
            for each in call.state.newest("billing_portal.configuration")
            if all(each[name] == params[name] for name in ("active", "is_default") if name in params)
        ]
    )
