"""A price's terms: Stripe's price in the words of `PlanPrice.terms`, and both in words for people."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from billing.templatetags.money import money, unit_money

Terms = dict[str, Any]


def read_terms(price: Mapping[str, Any], *, meters: Mapping[str, str]) -> Terms | None:
    """Return what a Stripe price, its tiers expanded, charges; None where none of ours could charge that.

    `meters` maps Stripe's ids of meters to our slugs.
    """
    recurring = price["recurring"] or {}
    if (
        recurring.get("interval") not in {"month", "year"}
        or recurring["interval_count"] != 1
        or price.get("transform_quantity")
        or price.get("custom_unit_amount")
    ):
        return None
    terms: Terms = {"currency": price["currency"], "interval": recurring["interval"]}
    if recurring["usage_type"] == "metered":
        if recurring.get("meter") not in meters:
            return None
        terms["meter"] = meters[recurring["meter"]]
    if price["billing_scheme"] == "tiered":
        return read_tiers(price, terms)
    # Fractions of a minor unit have no whole amount.
    return terms | {"unit_amount": price["unit_amount"]} if price["unit_amount"] is not None else None


def read_tiers(price: Mapping[str, Any], terms: Terms) -> Terms | None:
    tiers = price.get("tiers") or []
    if price["tiers_mode"] != "graduated" or any(tier["flat_amount_decimal"] for tier in tiers):
        return None
    return terms | {
        "tiers": [
            {
                "up_to": tier["up_to"] or "inf",
                "unit_amount_decimal": f"{Decimal(str(tier['unit_amount_decimal'] or 0)).normalize():f}",
            }
            for tier in tiers
        ]
    }


def describe(terms: Terms, *, unit: str = "unit") -> str:
    """Return terms as people read them: $29 a month; 10,000 calls included, then $0.002 a call."""
    if "tiers" in terms:
        return describe_tiers(terms, unit=unit)
    if "meter" in terms and terms["unit_amount"] == 0:
        return "free of charge"
    each = f" a {unit}" if "meter" in terms else f" a {terms['interval']}"
    return money(terms["unit_amount"], terms["currency"]) + each


def describe_tiers(terms: Terms, *, unit: str) -> str:
    parts = []
    for number, tier in enumerate(terms["tiers"]):
        amount, up_to = Decimal(tier["unit_amount_decimal"]), tier["up_to"]
        if number == 0 and amount == 0 and up_to != "inf":
            parts.append(f"{up_to:,} {unit}s included")
            continue
        reach = "" if up_to == "inf" else f" up to {up_to:,}"
        parts.append(f"{unit_money(amount, terms['currency'])} a {unit}{reach}")
    return ", then ".join(parts)
