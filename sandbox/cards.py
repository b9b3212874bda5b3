"""Stripe's test cards: what each number and each `pm_card_…` name does."""

from dataclasses import dataclass
from typing import Any

from sandbox.errors import ApiError


@dataclass(frozen=True)
class Decline:
    """Why a card was refused, in the words and codes of a card_error."""

    code: str
    message: str
    decline_code: str | None = None

    def error(self, **extra: Any) -> ApiError:
        return ApiError(
            self.message,
            status=402,
            type="card_error",
            code=self.code,
            decline_code=self.decline_code,
            **extra,
        )


GENERIC = Decline("card_declined", "Your card was declined.", "generic_decline")
INSUFFICIENT = Decline("card_declined", "Your card has insufficient funds.", "insufficient_funds")

# Refused whenever it is used, also when it is attached.
DECLINES = {
    "4000000000000002": GENERIC,
    "4000000000009995": INSUFFICIENT,
    "4000000000009987": Decline("card_declined", "Your card was declined.", "lost_card"),
    "4000000000009979": Decline("card_declined", "Your card was declined.", "stolen_card"),
    "4000000000000069": Decline("expired_card", "Your card has expired.", "expired_card"),
    "4000000000000127": Decline("incorrect_cvc", "Your card's security code is incorrect.", "incorrect_cvc"),
    "4000000000000119": Decline(
        "processing_error",
        "An error occurred while processing your card. Try again in a little bit.",
        "processing_error",
    ),
}
# Attaches without complaint, then every charge fails.
FAILS_ON_CHARGE = {"4000000000000341": GENERIC}
NEEDS_AUTHENTICATION = frozenset({"4000002500003155", "4000002760003184", "4000000000003220"})

NAMES = {
    "card_visa": "4242424242424242",
    "card_visa_debit": "4000056655665556",
    "card_mastercard": "5555555555554444",
    "card_amex": "378282246310005",
    "card_discover": "6011111111111117",
    "card_chargeDeclined": "4000000000000002",
    "card_visa_chargeDeclined": "4000000000000002",
    "card_chargeDeclinedInsufficientFunds": "4000000000009995",
    "card_visa_chargeDeclinedInsufficientFunds": "4000000000009995",
    "card_chargeDeclinedLostCard": "4000000000009987",
    "card_chargeDeclinedStolenCard": "4000000000009979",
    "card_chargeDeclinedExpiredCard": "4000000000000069",
    "card_chargeDeclinedIncorrectCvc": "4000000000000127",
    "card_chargeDeclinedProcessingError": "4000000000000119",
    "card_chargeCustomerFail": "4000000000000341",
}


def number_of(name: str) -> str | None:
    """Return the card number behind a test name (`pm_card_visa`, `tok_visa`), or None for no such name."""
    if name.startswith("pm_"):
        return NAMES.get(name.removeprefix("pm_"))
    if name.startswith("tok_"):
        return NAMES.get("card_" + name.removeprefix("tok_"))
    return None


def brand_of(number: str) -> str:
    if number.startswith(("34", "37")):
        return "amex"
    if number.startswith(("51", "52", "53", "54", "55", "2")):
        return "mastercard"
    if number.startswith("6"):
        return "discover"
    return "visa"


def is_card_number(number: str) -> bool:
    """Return whether the digits pass the Luhn check that every card number carries."""
    if not number.isascii() or not number.isdigit() or not 13 <= len(number) <= 19:
        return False
    digits = [int(digit) for digit in number[::-1]]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0
