"""What clients name in requests: plans, intervals, currencies, and pages of their own."""

import re
from typing import Any
from urllib.parse import urlsplit

from rest_framework import serializers

from billing.models import Plan, PlanPrice

SLUG = re.compile(r"[a-z0-9_]{1,40}")
PAGE_LENGTH = 2_000


class PlanField(serializers.SlugRelatedField[Plan]):
    """A public plan, by its slug."""

    default_error_messages = {"does_not_exist": "There is no such plan."}

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("help_text", "The slug of a plan in `GET /plans`.")
        super().__init__(slug_field="slug", queryset=Plan.objects.public(), **kwargs)

    def to_internal_value(self, data: Any) -> Plan:
        if not isinstance(data, str) or not SLUG.fullmatch(data):
            self.fail("does_not_exist")
        return super().to_internal_value(data)


class IntervalField(serializers.ChoiceField):
    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("help_text", "How often the fee is charged.")
        super().__init__(PlanPrice.Interval.choices, **kwargs)


class CurrencyField(serializers.RegexField):
    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("help_text", "ISO 4217, in small letters.")
        super().__init__(r"^[a-z]{3}\Z", **kwargs)


class PageField(serializers.CharField):
    """An address that a person is sent to: absolute, and http or https, so that it opens a page and runs nothing."""

    default_error_messages = {
        "not_a_page": "Use an absolute http or https address, such as https://example.com/done."
    }

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=PAGE_LENGTH, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        address = super().to_internal_value(data)
        if not is_page(address):
            self.fail("not_a_page")
        return address


def is_page(address: str) -> bool:
    # Browsers read a backslash as a slash and skip control characters, which would make it another address.
    if not address.isascii() or not address.isprintable() or re.search(r"[\s\\]", address):
        return False
    try:
        parts = urlsplit(address)
        _ = parts.port  # Raises where it is no number.
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and "@" not in parts.netloc
