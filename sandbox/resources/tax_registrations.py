"""Tax registrations: where the seller collects tax, and from when to when."""

from typing import Any

from sandbox.catalog import tax_places
from sandbox.catalog.taxing import registration_status
from sandbox.errors import ApiError, missing_parameter
from sandbox.params import TIME, EmptyOr, Enum, ListOf, Obj, OneOf, Str, Table, Type
from sandbox.render import computed
from sandbox.routing import Call, get, lists, post
from sandbox.store import Object

STANDARD = [
    "ae", "al", "ao", "au", "aw", "ba", "bb", "bd", "bf", "bh", "bs", "cd", "ch", "et", "gb", "gn",
    "is", "jp", "me", "mk", "mr", "no", "nz", "om", "rs", "sg", "sr", "uy", "za", "zw",
]  # fmt: skip
SIMPLIFIED = [
    "am", "az", "bj", "by", "cl", "cm", "co", "cr", "cv", "ec", "eg", "ge", "id", "in", "ke", "kg",
    "kh", "kr", "kz", "la", "lk", "ma", "md", "mx", "my", "ng", "np", "pe", "ph", "ru", "sa", "sn",
    "th", "tj", "tr", "tw", "tz", "ua", "ug", "uz", "vn", "zm",
]  # fmt: skip
US_TYPES = (
    "local_amusement_tax",
    "local_lease_tax",
    "state_communications_tax",
    "state_retail_delivery_fee",
    "state_sales_tax",
)
JURISDICTION = Obj({"jurisdiction!": Str(max=5000)})


def _scheme(*words: str) -> Table:
    return {"place_of_supply_scheme": Enum(*words)}


OPTIONS: dict[str, Type] = {
    **{
        each: Obj({"standard": Obj(_scheme("inbound_goods", "standard")), "type!": Enum("standard")})
        for each in STANDARD
    },
    **{each: Obj({"type!": Enum("simplified")}) for each in SIMPLIFIED},
    **{
        each.lower(): Obj(
            {
                "standard": Obj(
                    {"place_of_supply_scheme!": Enum("inbound_goods", "small_seller", "standard")}
                ),
                "type!": Enum("ioss", "oss_non_union", "oss_union", "standard"),
            }
        )
        for each in tax_places.EU
    },
    "ca": Obj(
        {
            "province_standard": Obj({"province!": Str(max=2)}),
            "type!": Enum("province_standard", "simplified", "standard"),
        }
    ),
    "us": Obj(
        {
            "local_amusement_tax": JURISDICTION,
            "local_lease_tax": JURISDICTION,
            "state!": Str(max=2, pattern="[A-Za-z]{2}"),
            "state_sales_tax": Obj(
                {
                    "elections!": ListOf(
                        Obj(
                            {
                                "jurisdiction": Str(),
                                "type!": Enum(
                                    "local_use_tax", "simplified_sellers_use_tax", "single_local_use_tax"
                                ),
                            }
                        )
                    )
                }
            ),
            "type!": Enum(*US_TYPES),
        }
    ),
}
MOMENT = OneOf(TIME, Enum("now"))

computed("tax.registration", "status", registration_status)


@post(
    "/v1/tax/registrations",
    {
        "active_from!": MOMENT,
        "country!": Str(max=2, pattern="[A-Za-z]{2}"),
        "country_options!": Obj(OPTIONS),
        "expires_at": TIME,
    },
)
def create(call: Call) -> Object:
    state, params = call.state, call.params
    country = params["country"].upper()
    given = params["country_options"]
    if set(given) != {country.lower()}:
        if country.lower() not in given:
            raise missing_parameter(f"country_options[{country.lower()}]")
        raise ApiError(
            f"`country_options` may only have the key `{country.lower()}` for a registration in {country}.",
            param="country_options",
        )
    options = _options(country, given[country.lower()])
    start = state.now() if params["active_from"] == "now" else params["active_from"]
    registration = state.new(
        "tax.registration",
        active_from=start,
        country=country,
        country_options={country.lower(): options},
        expires_at=params.get("expires_at"),
    )
    _check_ends(registration)
    if any(
        each["country"] == country
        and each["country_options"] == registration["country_options"]
        and registration_status(state, each) != "expired"
        for each in state.every("tax.registration")
    ):
        raise ApiError(
            "There is an active or scheduled registration of this type in this place already.",
            param="country_options",
        )
    return state.create(registration)


def _options(country: str, given: dict[str, Any]) -> Object:
    options = dict(given)
    param = f"country_options[{country.lower()}]"
    if country == "US":
        options["state"] = options["state"].upper()
    elif options["type"] == "standard" and country in tax_places.EU:
        if "standard" not in options:
            raise missing_parameter(f"{param}[standard]")
    elif options["type"] == "standard" and country.lower() in STANDARD:
        options.setdefault("standard", {}).setdefault("place_of_supply_scheme", "standard")
    elif options["type"] == "province_standard" and "province_standard" not in options:
        raise missing_parameter(f"{param}[province_standard]")
    return options


def _check_ends(registration: Object) -> None:
    expires = registration["expires_at"]
    if expires is not None and expires < registration["active_from"]:
        raise ApiError("`expires_at` cannot be before `active_from`.", param="expires_at")


@get("/v1/tax/registrations/<id>")
def retrieve(call: Call) -> Object:
    return call.state.get("tax.registration", call.args["id"], noun="tax registration")


@post("/v1/tax/registrations/<id>", {"active_from": MOMENT, "expires_at": EmptyOr(MOMENT)})
def update(call: Call) -> Object:
    state, params = call.state, call.params
    registration = state.get("tax.registration", call.args["id"], noun="tax registration")
    for name in ("active_from", "expires_at"):
        if name in params:
            registration[name] = state.now() if params[name] == "now" else params[name]
    _check_ends(registration)
    return state.put(registration)


@lists("/v1/tax/registrations", {"status": Enum("active", "all", "expired", "scheduled")})
def index(call: Call) -> Object:
    # Stripe lists those that are active unless asked for others.
    status = call.params.get("status", "active")
    return call.page(
        [
            each
            for each in call.state.newest("tax.registration")
            if status in ("all", registration_status(call.state, each))
        ]
    )
