"""Tiers as staff write them: a line each, in one field, so that a plan is entered and checked as one form."""

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from django import forms
from unfold.widgets import UnfoldAdminTextareaWidget

Tier = tuple[int | None, Decimal]

LINE = re.compile(
    r"(?:(?:up\s+)?to\s+(?P<up_to>\d[\d,_ ]*)|beyond|then)?\s*:?\s*(?P<amount>-?\d+(?:\.\d+)?)", re.IGNORECASE
)
DECIMALS = 12  # Stripe's limit.
HELP = (
    "What a unit beyond the included ones costs, in the currency's minor unit: 0.2 is $0.002. A line a tier."
)


def write_tiers(tiers: Iterable[Tier]) -> str:
    return "\n".join(
        f"{f'up to {up_to:,}' if up_to else 'beyond'}: {amount.normalize():f}" for up_to, amount in tiers
    )


def read_tiers(text: str) -> list[Tier]:
    """Return (up_to, unit_amount) of each line, in their order. Raises ValidationError, a sentence a line."""
    tiers, faults = [], []
    for line in filter(None, (line.strip() for line in text.splitlines())):
        try:
            tiers.append(read_line(line))
        except forms.ValidationError as error:
            faults.append(error)
    if faults:
        raise forms.ValidationError(faults)
    return tiers


def read_line(line: str) -> Tier:
    found = LINE.fullmatch(line)
    if not found:
        raise forms.ValidationError(
            f"“{line}” is no tier. Write “up to 50,000: 0.2”, and on the last line “beyond: 0.1”."
        )
    amount = Decimal(found["amount"])
    if amount < 0:
        raise forms.ValidationError(f"A price cannot be negative: “{line}”.")
    if max(0, -int(amount.normalize().as_tuple().exponent)) > DECIMALS or amount >= 10**8:
        raise forms.ValidationError(
            f"Stripe takes prices below 100,000,000 with at most {DECIMALS} digits after the point: “{line}”."
        )
    up_to = re.sub(r"\D", "", found["up_to"]) if found["up_to"] else None
    if up_to is not None and not 0 < int(up_to) < 2**63:
        raise forms.ValidationError(f"A tier ends at 1 unit or more: “{line}”.")
    return int(up_to) if up_to else None, amount


class TiersField(forms.CharField):
    """A text of tiers; clean and initial values are lists of (up_to, unit_amount)."""

    widget = UnfoldAdminTextareaWidget

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, help_text=HELP, **kwargs)
        self.widget.attrs |= {"rows": 2, "placeholder": "up to 50,000: 0.2\nbeyond: 0.1"}

    def prepare_value(self, value: Any) -> Any:
        return value if isinstance(value, str) or value is None else write_tiers(value)

    def to_python(self, value: Any) -> Any:
        return value if isinstance(value, list) else read_tiers(value or "")

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return self.to_python(data) != list(initial or [])
        except forms.ValidationError:
            return True
