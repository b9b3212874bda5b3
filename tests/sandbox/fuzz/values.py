"""Random parameters, drawn from the schemas of Stripe's document: mostly plausible, now and then absurd."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from sandbox.contract.spec import Schema, Spec
from tests.sandbox.fuzz.nouns import KINDS

Draw = st.DrawFn

ABSURD = (
    "", " ", "0", "-1", "1.5", "-0", "1e5", "NaN", "null", "true", "[]", "{}", "9" * 18, "9" * 40, "-" + "9" * 18,
    "x" * 6000, "٣", "²", "Ünïcödé ✓ \U0001f4b8", "a\nb", "\x00", "\u202e", "'; --", "<b>", "../..", "cus_", "in_1none",
)  # fmt: skip
ABSURD_KEYS = ("a[b", "]", "²", "٣", "0", "00", "é", "x" * 100, "object", "id", "_private", "items")
MOST_DEPTH = 5
NOW = 1_800_000_000
HOUR, DAY = 3600, 86400
MOMENTS = (
    0,
    1,
    NOW - 40 * DAY,
    NOW - DAY,
    NOW,
    NOW + HOUR,
    NOW + DAY,
    NOW + 40 * DAY,
    NOW + 800 * DAY,
    10**12,
)
NUMBERS = (0, 1, 2, 3, 5, 7, 10, 50, 99, 100, 500, 1000, 4900, 999_999, -1, -500, 99_999_999, 10**12)
DECIMALS = ("0", "0.05", "1", "12.5", "0.000000000001", "19", "-3", "100", "99999999", "1.2345678901234")
# Words that mean something to a parameter of this name.
WORDS = {
    "currency": ("usd", "usd", "eur", "jpy", "kwd", "xxx"),
    "country": ("US", "DE", "GB", "XX", "de"),
    "email": ("ada@example.com", "no", "ä@ö.de"),
    "url": ("http://127.0.0.1:9/", "https://example.com/", "ftp://x", "nowhere"),
    "return_url": ("http://127.0.0.1/done", "nowhere"),
    "success_url": ("http://127.0.0.1/done?s={CHECKOUT_SESSION_ID}", "nowhere"),
    "cancel_url": ("http://127.0.0.1/back", "nowhere"),
    "payment_method": ("pm_card_visa", "pm_card_chargeDeclined", "pm_card_threeDSecureRequired"),
    "default_payment_method": ("pm_card_visa",),
    "event_name": ("requests", "nothing"),
    "query": ("email:'ada@example.com'", "metadata['a']:'b' OR created>0", "status:active", "amount>=x", "a:b"),
    "lookup_key": ("pro", "basic"),
    "code": ("SPRING", "AUTUMN"),
    "up_to": ("inf", "10", "100", "5"),
    "value": ("DE123456789", "12-3456789", "1", "5"),
    "payment_method_types": ("card", "link", "sepa_debit"),
    "page": ("0", "1", "x"),
    "authentication_token": ("x",),
    "billing_cycle_anchor": ("now", "unchanged", str(NOW), str(NOW + 5 * DAY)),
    "trial_end": ("now", str(NOW + 5 * DAY), str(NOW)),
    "start_date": ("now", str(NOW), str(NOW + DAY)),
    "end_date": (str(NOW + 40 * DAY), str(NOW + 70 * DAY), "now"),
    "expand": ("customer", "latest_invoice", "data.customer", "items.data.price.product", "default_price", "x.y.z.a.b"),
}  # fmt: skip


@dataclass(frozen=True)
class Thing:
    """The id of some object of the world a call is made in; which one is settled when it is made."""

    kind: str
    number: int


Value = Any


def chance(draw: Draw, percent: int) -> bool:
    return draw(st.integers(1, 100)) > 100 - percent


def table(
    draw: Draw, spec: Spec, known: dict[str, Schema], required: tuple[str, ...], *, depth: int = 0
) -> dict[str, Value]:
    """Return parameters for a table of schemas: the required ones, mostly, and a few of the others."""
    chosen = {name for name in required if name in known and not chance(draw, 4)}
    others = sorted(set(known) - set(required) - {"expand"})
    if others and depth < MOST_DEPTH:
        for _ in range(draw(st.sampled_from((0, 0, 1, 1, 2, 3)))):
            chosen.add(draw(st.sampled_from(others)))
    if "expand" in known and chance(draw, 10):
        chosen.add("expand")
    params = {name: value(draw, spec, known[name], name=name, depth=depth) for name in sorted(chosen)}
    if chance(draw, 3):
        params[draw(st.sampled_from(ABSURD_KEYS))] = draw(st.sampled_from(ABSURD))
    return params


def value(draw: Draw, spec: Spec, schema: Schema, *, name: str, depth: int) -> Value:
    """Return a value for one parameter: by its schema and by what its name tells, or nonsense."""
    if chance(draw, 5):
        return nonsense(draw)
    schema = spec.resolve(schema)
    if "anyOf" in schema:
        schema = spec.resolve(draw(st.sampled_from(schema["anyOf"])))
    kind = schema.get("type")
    if kind == "object":
        if "properties" in schema:
            required = tuple(schema.get("required", ()))
            return table(draw, spec, schema["properties"], required, depth=depth + 1)
        return {
            draw(st.sampled_from(("a", "b", "stripe_customer_id", "value", *ABSURD_KEYS))): draw(
                st.sampled_from(("1", "5", Thing("customer", 0), Thing("customer", 1), *ABSURD))
            )
            for _ in range(draw(st.integers(0, 3)))
        }
    if kind == "array":
        length = draw(st.sampled_from((0, 1, 1, 1, 2, 2, 3)))
        return [value(draw, spec, schema["items"], name=name, depth=depth) for _ in range(length)]
    return scalar(draw, schema, name=name)


def scalar(draw: Draw, schema: Schema, *, name: str) -> Value:  # noqa: PLR0911  (one return a kind)
    kind = schema.get("type")
    if name in KINDS and kind == "string" and not chance(draw, 15):
        return Thing(draw(st.sampled_from(KINDS[name])), draw(st.integers(0, 7)))
    if name in WORDS and kind != "integer":
        return draw(st.sampled_from(WORDS[name]))
    if "enum" in schema:
        return draw(st.sampled_from(schema["enum"]))
    if kind == "boolean":
        return draw(st.sampled_from(("true", "false")))
    if kind == "integer" and schema.get("format") == "unix-time":
        return str(draw(st.sampled_from(MOMENTS)))
    if kind == "integer":
        return str(draw(st.sampled_from(NUMBERS)))
    if kind == "number" or schema.get("format") == "decimal":
        return draw(st.sampled_from(DECIMALS))
    return draw(st.sampled_from(("Pro", "a", "abc-1", *ABSURD)))


def nonsense(draw: Draw) -> Value:
    """Return a value of any shape, whatever is wanted."""
    shape = draw(st.integers(0, 5))
    if shape == 0:
        return [draw(st.sampled_from(ABSURD))]
    if shape == 1:
        return {draw(st.sampled_from(ABSURD_KEYS)): draw(st.sampled_from(ABSURD))}
    if shape == 2:
        deep: Value = "1"
        for _ in range(draw(st.sampled_from((3, 9, 40)))):
            deep = {"a": deep}
        return deep
    if shape == 3:
        return {}
    return draw(st.sampled_from(ABSURD))
