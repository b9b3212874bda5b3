"""What people type into the hosted pages: cards, addresses, e-mail; read and checked field by field."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from werkzeug.datastructures import MultiDict

from sandbox.pages.countries import COUNTRIES, tax_id_type
from sandbox.payments.cards import NOT_FOR_TESTS, is_card_number, is_test_number
from sandbox.state import Sandbox

ADDRESS = ("line1", "line2", "city", "state", "postal_code", "country")
# Where people write no state, or no postal code, into an address.
WITH_STATE = frozenset({"US", "CA", "AU", "IN", "BR", "MX", "JP", "IE", "MY"})
WITHOUT_POSTAL_CODE = frozenset({"AE", "HK", "IE", "PA", "QA"})
EMAIL = r"[^@\s]+@[^@\s]+\.[^@\s]+|[^@\s]+@localhost"


@dataclass
class Form:
    """What was typed, by field, and what is wrong with it. `card` is there once a card has been read."""

    values: dict[str, str]
    errors: dict[str, str] = field(default_factory=dict)
    # Said above the form rather than at a field: a declined card.
    alert: str | None = None
    # Said in calm: something changed that is no mistake.
    notice: str | None = None
    card: dict[str, Any] | None = None

    @classmethod
    def of(cls, sent: MultiDict[str, str] | dict[str, str] | None = None) -> Form:
        return cls({name: str(value).strip()[:500] for name, value in (sent or {}).items()})

    def get(self, name: str) -> str:
        return self.values.get(name, "")

    def need(self, name: str, message: str) -> str:
        """Return a field's text, noting the message where there is none."""
        if not self.get(name):
            self.errors[name] = message
        return self.get(name)

    def read_email(self) -> str:
        if not re.fullmatch(EMAIL, self.get("email")):
            self.errors["email"] = "Enter an e-mail address."
        return self.get("email")

    def read_card(self, state: Sandbox) -> None:
        """Read number, expiry, cvc and name into `card`, or note what is wrong with them."""
        number = re.sub(r"[\s-]", "", self.get("number"))
        if not number:
            self.errors["number"] = "Enter a card number."
        elif not is_card_number(number):
            self.errors["number"] = "Your card number is invalid."
        elif not is_test_number(number):
            self.errors["number"] = NOT_FOR_TESTS.message
            # Whatever card that is, it is not to be written into a page.
            self.values["number"] = self.values["cvc"] = ""
        month, year = self._read_expiry(state)
        if not re.fullmatch(r"\d{4}" if number.startswith(("34", "37")) else r"\d{3}", self.get("cvc")):
            self.errors["cvc"] = "Your card's security code is incomplete."
        self.need("name", "Enter the name on the card.")
        if not self.errors.keys() & {"number", "expiry", "cvc", "name"}:
            self.card = {"number": number, "exp_month": month, "exp_year": year}

    def _read_expiry(self, state: Sandbox) -> tuple[int, int]:
        expiry = re.fullmatch(r"(\d{1,2})\s*/?\s*(\d{2}|\d{4})", self.get("expiry"))
        if expiry is None or not 1 <= int(expiry[1]) <= 12:
            self.errors["expiry"] = "Your card's expiration date is incomplete. Write it as MM / YY."
            return 0, 0
        month, year = int(expiry[1]), int(expiry[2]) % 100 + 2000
        today = state.clock.today()
        if (year, month) < (today.year, today.month):
            self.errors["expiry"] = "Your card's expiration date is in the past."
        return month, year

    def read_address(self, *, full: bool) -> dict[str, str | None]:
        """Return the address typed; `full` asks for every part a letter needs, else only the country."""
        country = self.get("country")
        if country not in COUNTRIES:
            self.errors["country"] = "Choose a country or region."
        if full:
            self.need("line1", "Enter the first line of your address.")
            self.need("city", "Enter a city.")
            if country in WITH_STATE:
                self.need("state", "Enter a state, province or county.")
            if country not in WITHOUT_POSTAL_CODE:
                self.need("postal_code", "Enter a postal code.")
        elif country == "US":
            # Sales tax goes by state; Stripe reads it from the ZIP code, the sandbox asks.
            self.need("postal_code", "Enter a ZIP code.")
        return {part: self.get(part) or None for part in ADDRESS}

    def read_tax_id(self) -> dict[str, str] | None:
        """Return the tax id typed as {type, value}, or None; its type follows from the country."""
        value = self.get("tax_id")
        if not value:
            return None
        kind = tax_id_type(self.get("country"))
        if kind is None:
            self.errors["tax_id"] = "Tax IDs of this country are not taken here."
            return None
        return {"type": kind, "value": value}


def address_values(address: dict[str, Any] | None) -> dict[str, str]:
    """Return an address as the values of a form."""
    return {part: (address or {}).get(part) or "" for part in ADDRESS}
