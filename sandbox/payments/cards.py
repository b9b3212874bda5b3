"""Stripe's test cards: what each number and each `pm_card_…` or `tok_…` name does."""

from dataclasses import dataclass
from enum import Enum
from typing import Any

from sandbox.errors import ApiError
from sandbox.store import Object


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
AUTHENTICATION_REQUIRED = Decline(
    "authentication_required",
    "Your card was declined. This transaction requires authentication.",
    "authentication_required",
)

# Refused whenever it is used, also when it is attached.
DECLINES = {
    "4000000000000002": GENERIC,
    "4000000000009995": INSUFFICIENT,
    "4000000000009987": Decline("card_declined", "Your card was declined.", "lost_card"),
    "4000000000009979": Decline("card_declined", "Your card was declined.", "stolen_card"),
    "4000000000006975": Decline(
        "card_declined",
        "Your card was declined for making repeated attempts too frequently or exceeding its amount limit.",
        "card_velocity_exceeded",
    ),
    "4100000000000019": Decline("card_declined", "Your card was declined.", "fraudulent"),
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
# Declined once the holder has proved who they are, or where that was not asked.
FAILS_AFTER_AUTHENTICATION = {"4000008260003178": INSUFFICIENT, "4000008400001629": GENERIC}


class OffSession(Enum):
    """When a card that asks for 3-D Secure may be charged with its holder away."""

    NEVER = "never"
    ONCE_SET_UP = "once set up with authentication"
    ALWAYS = "always"


# With its holder there, each of these asks for 3-D Secure at every payment.
AUTHENTICATION = {
    "4000002500003155": OffSession.ONCE_SET_UP,
    "4000002760003184": OffSession.NEVER,
    "4000003800000446": OffSession.ALWAYS,
    "4000008260003178": OffSession.ONCE_SET_UP,
    "4000000000003220": OffSession.ONCE_SET_UP,
    "4000000000003063": OffSession.ONCE_SET_UP,
    "4000008400001629": OffSession.ONCE_SET_UP,
}
# Able to do 3-D Secure, and asked for it only where the seller insists.
AUTHENTICATION_ON_REQUEST = frozenset({"4000000000003055"})
# The charge goes well; a refund of it is pending for a while, or fails after it seemed to succeed.
REFUND_PENDS = "4000000000007726"
REFUND_FAILS = "4000000000005126"

NAMES = {
    "card_visa": "4242424242424242",
    "card_visa_debit": "4000056655665556",
    "card_mastercard": "5555555555554444",
    "card_mastercard_debit": "5200828282828210",
    "card_mastercard_prepaid": "5105105105105100",
    "card_amex": "378282246310005",
    "card_discover": "6011111111111117",
    "card_diners": "3056930009020004",
    "card_jcb": "3566002020360505",
    "card_unionpay": "6200000000000005",
    "card_us": "4242424242424242",
    "card_gb": "4000008260000000",
    "card_de": "4000002760000016",
    "card_fr": "4000002500000003",
    "card_bypassPending": "4000000000000077",
    "card_pendingRefund": REFUND_PENDS,
    "card_refundFail": REFUND_FAILS,
    "card_chargeDeclined": "4000000000000002",
    "card_visa_chargeDeclined": "4000000000000002",
    "card_chargeDeclinedInsufficientFunds": "4000000000009995",
    "card_visa_chargeDeclinedInsufficientFunds": "4000000000009995",
    "card_chargeDeclinedLostCard": "4000000000009987",
    "card_visa_chargeDeclinedLostCard": "4000000000009987",
    "card_chargeDeclinedStolenCard": "4000000000009979",
    "card_visa_chargeDeclinedStolenCard": "4000000000009979",
    "card_visa_chargeDeclinedVelocityLimitExceeded": "4000000000006975",
    "card_radarBlock": "4100000000000019",
    "card_chargeDeclinedExpiredCard": "4000000000000069",
    "card_chargeDeclinedIncorrectCvc": "4000000000000127",
    "card_chargeDeclinedProcessingError": "4000000000000119",
    "card_chargeCustomerFail": "4000000000000341",
    "card_authenticationRequiredOnSetup": "4000002500003155",
    "card_authenticationRequired": "4000002760003184",
    "card_authenticationRequiredSetupForOffSession": "4000003800000446",
    "card_authenticationRequiredChargeDeclinedInsufficientFunds": "4000008260003178",
    "card_threeDSecure2Required": "4000000000003220",
    "card_threeDSecureRequired": "4000000000003063",
    "card_threeDSecureRequiredChargeDeclined": "4000008400001629",
    "card_threeDSecureOptional": "4000000000003055",
}
# Stripe's other test numbers begin so, or are these.
TEST_PREFIX = "400000"
TEST_NUMBERS = frozenset(NAMES.values()) | {
    *DECLINES,
    "2223003122003222",
    "371449635398431",
    "4000056655665556",
    "36227206271667",
    "5200828282828210",
    "6011000990139424",
    "6011981111111113",
    "6200000000000047",
    "6205500000000000004",
    "6555900000604105",
}
NOT_FOR_TESTS = Decline(
    "card_declined",
    "Your card was declined. Your request was in test mode, but used a non test (live) card. For a list of "
    "valid test cards, visit: https://stripe.com/docs/testing.",
    "test_mode_live_card",
)
COUNTRIES = {
    "4000008260000000": "GB",
    "4000008260003178": "GB",
    "4000002760000016": "DE",
    "4000002760003184": "DE",
    "4000002500000003": "FR",
    "4000002500003155": "FR",
    "4000003800000446": "IT",
}
FUNDING = {"4000056655665556": "debit", "5200828282828210": "debit", "5105105105105100": "prepaid"}
BRANDS = (
    ("amex", ("34", "37")),
    ("mastercard", ("51", "52", "53", "54", "55", "2")),
    ("diners", ("30", "36", "38", "39")),
    ("jcb", ("35",)),
    ("unionpay", ("62",)),
    ("discover", ("6",)),
)


def asks_authentication(method: Object, *, off_session: bool, requested: bool = False) -> bool:
    """Return whether a charge to this card needs its holder's 3-D Secure; `requested` is the seller's wish."""
    rule = AUTHENTICATION.get(method["_number"])
    if rule is None:
        return requested and not off_session and method["_number"] in AUTHENTICATION_ON_REQUEST
    if not off_session:
        return True
    if rule is OffSession.ONCE_SET_UP:
        return not method.get("_set_up")
    return rule is OffSession.NEVER


def decline_of(method: Object, *, charged: bool = True) -> Decline | None:
    """Return why a charge to this card fails (or, not `charged`, why it cannot be saved), else None."""
    number = method["_number"]
    found = DECLINES.get(number)
    if found is None and charged:
        found = FAILS_ON_CHARGE.get(number) or FAILS_AFTER_AUTHENTICATION.get(number)
    return found


def number_of(name: str) -> str | None:
    """Return the card number behind a test name (`pm_card_visa`, `tok_visa`), or None for no such name."""
    if name.startswith("pm_"):
        return NAMES.get(name.removeprefix("pm_"))
    if name.startswith("tok_"):
        return NAMES.get("card_" + name.removeprefix("tok_"))
    return None


def brand_of(number: str) -> str:
    return next((brand for brand, starts in BRANDS if number.startswith(starts)), "visa")


def is_card_number(number: str) -> bool:
    """Return whether the digits pass the Luhn check that every card number carries."""
    if not number.isascii() or not number.isdigit() or not 13 <= len(number) <= 19:
        return False
    digits = [int(digit) for digit in number[::-1]]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def is_test_number(number: str) -> bool:
    """Return whether a number is one of Stripe's test cards: any other may be somebody's."""
    return number.startswith(TEST_PREFIX) or number in TEST_NUMBERS
