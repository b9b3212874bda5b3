"""Tax on the lines of an invoice: by tax rates that were set, or worked out from registrations."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sandbox.catalog import tax_places
from sandbox.catalog.amounts import amount_in, rounded
from sandbox.errors import ApiError
from sandbox.render import computed
from sandbox.state import Sandbox
from sandbox.store import Object

SETTINGS = "tax.settings"
HUNDRED = Decimal(100)


@dataclass(frozen=True)
class Verdict:
    """What automatic tax says of one sale."""

    percentage: Decimal
    reason: str
    country: str
    state: str | None
    type: str | None  # vat or sales_tax


def tax_lines(state: Sandbox, invoice: Object) -> None:
    """Fill the lines' `taxes`, the invoice's `total_taxes` and its automatic tax status.

    Amounts are after discounts, in minor units; each line and rate is rounded by itself, half up.
    """
    automatic = invoice["automatic_tax"]["enabled"]
    place = _place(invoice) if automatic else None
    if automatic:
        invoice["automatic_tax"]["provider"] = "stripe"
        invoice["automatic_tax"]["status"] = "complete" if place else "requires_location_inputs"
    exempt = invoice.get("customer_tax_exempt") or "none"
    for line in invoice["lines"]["data"]:
        rates = line.get("_tax_rates") or invoice["default_tax_rates"]
        net = line["amount"] - sum(each["amount"] for each in line["discount_amounts"])
        if automatic:
            line["taxes"] = _automatic(state, invoice, line, net=net, place=place) if place else []
        else:
            line["taxes"] = _by_rates(state, rates, net=net, exempt=exempt)
    invoice["total_taxes"] = _summed(each for line in invoice["lines"]["data"] for each in line["taxes"])


def added(invoice: Object) -> int:
    """Return the tax that comes on top of an invoice's lines, in minor units."""
    return sum(each["amount"] for each in invoice["total_taxes"] if each["tax_behavior"] == "exclusive")


def tax_ids_of(state: Sandbox, customer_id: str) -> list[dict[str, Any]]:
    """Return a customer's tax ids as an invoice shows them, oldest first."""
    return [
        {"type": each["type"], "value": each["value"]}
        for each in state.every("tax_id")
        if each["customer"] == customer_id
    ]


def get_tax_rates(state: Sandbox, identifiers: list[str], *, param: str) -> list[str]:
    """Return the ids. Raises ApiError (400) for a tax rate that is not there or is archived."""
    for index, each in enumerate(identifiers):
        name = f"{param}[{index}]"
        rate = state.get("tax_rate", each, param=name, status=400)
        if not rate["active"]:
            raise ApiError(f"The tax rate {each} is archived and cannot be used.", param=name)
    return identifiers


def shown_tax_rates(state: Sandbox, identifiers: list[Any]) -> list[Object]:
    """Return tax rates as they are shown: whole. What comes shown already, from a preview, is left so."""
    return [
        each if isinstance(each, dict) else state.render(state.get("tax_rate", each)) for each in identifiers
    ]


def shows_tax_rates(kind: str, field: str) -> None:
    """Declare that a field of `kind` holds ids of tax rates and shows them whole."""
    computed(kind, field, lambda state, obj: shown_tax_rates(state, obj[field]))


def require_automatic_tax(
    state: Sandbox, customer: Object | None, *, param: str = "automatic_tax[enabled]"
) -> None:
    """Refuse automatic tax where it cannot work, as Stripe does when it is asked for.

    Raises ApiError (400): `stripe_tax_inactive` before the tax settings are complete,
    `customer_tax_location_invalid` for a customer whose place is not known.
    """
    settings = state.find(SETTINGS, SETTINGS)
    if settings is None or missing_settings(settings):
        raise ApiError(
            "You must have a valid head office address to enable automatic tax calculation in test mode. "
            "Visit https://dashboard.stripe.com/test/settings/tax to update it.",
            code="stripe_tax_inactive",
            param=param,
        )
    if customer is not None and location(customer.get("shipping"), customer["address"]) is None:
        raise ApiError(
            "The customer's location isn't recognized. Set a valid customer address in order to "
            "automatically calculate tax.",
            code="customer_tax_location_invalid",
            param=param,
        )


def missing_settings(settings: Object) -> list[str]:
    """Return which of the tax settings are yet to be made, as Stripe names them."""
    wanted = {
        "head_office": settings["head_office"],
        "defaults.tax_behavior": settings["defaults"]["tax_behavior"],
        "defaults.tax_code": settings["defaults"]["tax_code"],
    }
    return [name for name, value in wanted.items() if not value]


def location(shipping: Object | None, address: Object | None) -> Object | None:
    """Return the address that tax goes by, the shipping address first; None where neither will do."""
    for each in ((shipping or {}).get("address"), address):
        if each and usable(each):
            return dict(each)
    return None


def usable(address: Object) -> bool:
    """Return whether tax can be worked out for an address: a country, and within the US a state."""
    country = address.get("country")
    return bool(country) and (country != "US" or bool(address.get("state")))


def _place(invoice: Object) -> Object | None:
    return location(invoice.get("customer_shipping"), invoice.get("customer_address"))


def _by_rates(state: Sandbox, identifiers: list[str], *, net: int, exempt: str) -> list[Object]:
    rates = [state.get("tax_rate", each) for each in identifiers]
    reason = {"exempt": "customer_exempt", "reverse": "reverse_charge"}.get(exempt, "not_available")
    parts = [
        (
            each["id"],
            Decimal(str(each["percentage"])) if exempt == "none" else Decimal(0),
            bool(each["inclusive"]),
        )
        for each in rates
    ]
    return taxes_on(net, parts, reason=reason)


def taxes_on(net: int, rates: list[tuple[str, Decimal, bool]], *, reason: str) -> list[Object]:
    """Return the taxes on an amount by rates of (tax rate id, percent, inclusive).

    Inclusive tax is taken out of the amount; exclusive tax is on what is then left.
    """
    within = sum((percent for _, percent, inclusive in rates if inclusive), Decimal(0))
    amounts = [
        rounded(net * percent / (HUNDRED + within)) if inclusive else None for _, percent, inclusive in rates
    ]
    base = net - sum(each or 0 for each in amounts)
    return [
        {
            "amount": rounded(base * percent / HUNDRED) if amount is None else amount,
            "tax_behavior": "inclusive" if inclusive else "exclusive",
            "tax_rate_details": {"tax_rate": identifier},
            "taxability_reason": reason,
            "taxable_amount": base,
            "type": "tax_rate_details",
        }
        for (identifier, percent, inclusive), amount in zip(rates, amounts, strict=True)
    ]


def _summed(taxes: Iterable[Object]) -> list[Object]:
    """Return one entry a rate, behaviour and reason, with amounts added up."""
    totals: dict[tuple[str, str, str], Object] = {}
    for each in taxes:
        key = (each["tax_rate_details"]["tax_rate"], each["tax_behavior"], each["taxability_reason"])
        if key not in totals:
            totals[key] = {**each, "amount": 0, "taxable_amount": 0}
        totals[key]["amount"] += each["amount"]
        totals[key]["taxable_amount"] += each["taxable_amount"]
    return list(totals.values())


def _automatic(state: Sandbox, invoice: Object, line: Object, *, net: int, place: Object) -> list[Object]:
    details = (line["pricing"] or {}).get("price_details") or {}
    price = state.find("price", details.get("price") or "")
    product = state.find("product", details.get("product") or "")
    settings = state.find(SETTINGS, SETTINGS) or new_settings()
    found = verdict(
        state,
        place,
        tax_code=(product or {}).get("tax_code") or settings["defaults"]["tax_code"],
        exempt=invoice.get("customer_tax_exempt") or "none",
        tax_ids=tax_ids_of(state, invoice["customer"]),
    )
    sold = amount_in(price, invoice["currency"]) if price else None
    inclusive = behavior((sold or {}).get("tax_behavior"), settings, invoice["currency"]) == "inclusive"
    rate = automatic_rate(state, found, inclusive=inclusive)
    taxes = taxes_on(net, [(rate["id"], found.percentage, inclusive)], reason=found.reason)
    if found.reason == "not_collecting":
        taxes[0]["taxable_amount"] = 0
    return taxes


def behavior(own: str | None, settings: Object, currency: str) -> str:
    """Return "exclusive" or "inclusive": a price's own behaviour, else what the tax settings say."""
    if own in ("exclusive", "inclusive"):
        return own
    default = settings["defaults"]["tax_behavior"]
    if default == "inferred_by_currency":
        return "exclusive" if currency in tax_places.EXCLUSIVE_CURRENCIES else "inclusive"
    return str(default or "exclusive")


def verdict(
    state: Sandbox, place: Object, *, tax_code: str | None, exempt: str, tax_ids: list[dict[str, Any]]
) -> Verdict:
    """Say what tax is due on a sale to someone at `place`, an address that `usable` accepts."""
    country, region = place["country"].upper(), (place.get("state") or "").upper() or None
    kind = "sales_tax" if country == "US" else "vat"
    origin = home(state)

    def nothing(reason: str) -> Verdict:
        return Verdict(Decimal(0), reason, country, region if country == "US" else None, kind)

    percentage = _percentage(state, country, region, origin=origin)
    if percentage is None:
        return nothing("not_collecting")
    if exempt == "exempt":
        return nothing("customer_exempt")
    if exempt == "reverse" or _reverse_charged(country, origin=origin, tax_ids=tax_ids):
        return nothing("reverse_charge")
    if tax_code == tax_places.NONTAXABLE:
        return nothing("product_exempt")
    online = (tax_code or "").startswith(tax_places.ONLINE)
    if country == "US" and online and region not in tax_places.US_SERVICES:
        return nothing("product_exempt")
    return Verdict(percentage, "standard_rated", country, region if country == "US" else None, kind)


def home(state: Sandbox) -> str | None:
    """Return the country of the seller's head office."""
    settings = state.find(SETTINGS, SETTINGS)
    office = settings["head_office"] if settings else None
    return office["address"]["country"] if office else None


def _percentage(state: Sandbox, country: str, region: str | None, *, origin: str | None) -> Decimal | None:
    """Return the standard rate of a place where the seller collects, None for elsewhere."""
    for each in state.every("tax.registration"):
        if registration_status(state, each) != "active":
            continue
        options = each["country_options"][each["country"].lower()]
        if country == "US":
            if each["country"] == "US" and options.get("state") == region and region in tax_places.US:
                return tax_places.US[region]
        elif country == "GB":
            if each["country"] == "GB":
                return tax_places.GB
        elif country in tax_places.EU:
            if options["type"] in ("oss_union", "oss_non_union"):
                return tax_places.EU[country]
            if options["type"] == "standard" and each["country"] == country:
                return tax_places.EU[country]
            # A small seller charges its home country's tax to private buyers in all of the EU.
            scheme = (options.get("standard") or {}).get("place_of_supply_scheme")
            if scheme == "small_seller" and each["country"] == origin:
                return tax_places.EU[each["country"]]
    return None


def _reverse_charged(country: str, *, origin: str | None, tax_ids: list[dict[str, Any]]) -> bool:
    """Return whether the buyer, a business abroad, accounts for the tax itself."""
    if country == origin:
        return False
    if country == "GB":
        return any(each["type"] == "gb_vat" for each in tax_ids)
    return country in tax_places.EU and any(
        # Greece writes EL on its VAT numbers.
        each["type"] == "eu_vat" and each["value"][:2].upper().replace("EL", "GR") in tax_places.EU
        for each in tax_ids
    )


def registration_status(state: Sandbox, registration: Object) -> str:
    """Return scheduled, active or expired by the time in force."""
    now, expires = state.now(), registration["expires_at"]
    if expires is not None and now >= expires:
        return "expired"
    return "scheduled" if now < registration["active_from"] else "active"


def automatic_rate(state: Sandbox, found: Verdict, *, inclusive: bool) -> Object:
    """Return the tax rate that stands for a verdict; the same verdict always has the same rate."""
    text = f"{state.account_id} {found.country} {found.state} {found.percentage} {inclusive}"
    identifier = "txr_1" + hashlib.sha256(text.encode()).hexdigest()[:23]
    rate = state.find("tax_rate", identifier)
    if rate is not None:
        return rate
    percentage = float(found.percentage)
    return state.put(
        state.new(
            "tax_rate",
            id=identifier,
            active=False,
            country=found.country,
            description=None,
            display_name="Sales tax" if found.type == "sales_tax" else "VAT",
            effective_percentage=percentage,
            flat_amount=None,
            inclusive=inclusive,
            jurisdiction=found.state or found.country,
            jurisdiction_level="state" if found.state else "country",
            metadata={},
            percentage=percentage,
            rate_type="percentage",
            state=found.state,
            tax_type=found.type,
            _automatic=True,
        )
    )


def new_settings() -> Object:
    """Return the tax settings of an account that never touched them."""
    return {
        "object": SETTINGS,
        "defaults": {"provider": "stripe", "tax_behavior": None, "tax_code": None},
        "head_office": None,
        "livemode": False,
    }
