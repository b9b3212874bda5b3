"""What several of billing's fields take."""

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator, RegexValidator

slug_validator = RegexValidator(
    r"^[a-z][a-z0-9_]{0,39}$", "Use small letters, digits and _, starting with a letter."
)
currency_validator = RegexValidator(
    r"^[a-z]{3}$", "Use a three-letter ISO 4217 code in small letters, such as usd."
)

lookup_key_validator = RegexValidator(r"^[A-Za-z0-9_.:-]+$", "Use letters, digits and the signs _ . : -")
at_least_one = MinValueValidator(1, "Use 1 or more, or leave it empty for unlimited: 0 would let nobody in.")
not_negative = MinValueValidator(0, "A price cannot be negative: use a coupon to give money off.")


def check_burst(burst: int | None, *, rate: int | None) -> None:
    """Raise ValidationError beside the burst where it does not lie within the calls a minute."""
    if burst is not None and rate is None:
        raise ValidationError(
            {"burst": "A burst needs calls a minute: without a rate any number may come at once."}
        )
    if burst is not None and rate is not None and burst > rate:
        raise ValidationError({"burst": f"A burst is at most the {rate:,} calls that a minute allows."})
