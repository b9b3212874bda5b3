"""The currencies Stripe takes, and hashes of parameters by currency."""

from dataclasses import dataclass
from typing import Any

from sandbox.errors import ApiError
from sandbox.params import Strings, Table, read_table
from sandbox.state import Sandbox
from sandbox.store import Object

# https://docs.stripe.com/currencies, presentment currencies.
CURRENCIES = frozenset(
    """
    aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bhd bif bmd bnd bob brl bsd bwp byn bzd cad
    cdf chf clp cny cop crc cve czk djf dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gnf gtq gyd hkd
    hnl htg huf idr ils inr isk jmd jod jpy kes kgs khr kmf krw kwd kyd kzt lak lbp lkr lrd lsl mad mdl
    mga mkd mmk mnt mop mur mvr mwk mxn myr mzn nad ngn nio nok npr nzd omr pab pen pgk php pkr pln pyg
    qar ron rsd rub rwf sar sbd scr sek sgd shp sle sos srd std szl thb tjs tnd top try ttd twd tzs uah
    ugx usd uyu uzs vnd vuv wst xaf xcd xof xpf yer zar zmw
    """.split()  # noqa: SIM905 (a page of quotes and commas otherwise)
)


def check_currency(currency: str, *, param: str = "currency") -> str:
    """Return the currency in lower case. Raises ApiError for one that Stripe does not take."""
    lower = currency.lower()
    if lower not in CURRENCIES:
        raise ApiError(
            f"Invalid currency: {currency}. Stripe currently supports these currencies: "
            f"{', '.join(sorted(CURRENCIES))}",
            param=param,
        )
    return lower


@dataclass(frozen=True)
class ByCurrency(Strings):
    """A hash with a currency's code for each key and a hash of `table` for each value."""

    table: Table | None = None

    def read(self, value: Any, *, name: str) -> dict[str, Any]:
        if value == []:
            value = {}
        if not isinstance(value, dict):
            raise ApiError("Invalid object", param=name)
        read = {}
        for key, each in value.items():
            inner = f"{name}[{key}]"
            currency = check_currency(key, param=inner)
            if not isinstance(each, dict):
                raise ApiError("Invalid object", param=inner)
            read[currency] = read_table(each, self.table or {}, prefix=inner)
        return read


def check_customer_currency(
    state: Sandbox, customer: Object, currency: str, *, param: str = "currency"
) -> None:
    """Raise ApiError (400) where the customer is billed in another currency, or has a Checkout page open in one."""
    known = [customer["currency"]] + [
        session["currency"]
        for session in state.every("checkout.session")
        if session["customer"] == customer["id"]
        and session["mode"] == "subscription"
        and session["status"] == "open"
    ]
    other = next((each for each in known if each not in (None, currency)), None)
    if other is not None:
        raise ApiError(
            "You cannot combine currencies on a single customer. This customer has an active subscription, "
            "subscription schedule, discount, quote, invoice item or active subscription mode checkout "
            f"session with currency {other}.",
            param=param,
        )
