"""Numbers of units for people."""

from django import template
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

register = template.Library()

# 9,999,999 has a line of its own in the narrowest tile.
NEVER_BROKEN = 9


@register.filter
def grouped(units: int) -> SafeString:
    """Return a whole number as `intcomma` writes it, which takes ten times as long: a page of usage has hundreds."""
    return SafeString(f"{units:,}")


@register.filter
def breakable(units: int) -> SafeString:
    """Return a number that may be broken after its commas where it is long: never within three digits."""
    text = grouped(units)
    if len(text) <= NEVER_BROKEN:
        return text
    *groups, last = text.split(",")
    return format_html_join("", "{},<wbr>", ((group,) for group in groups)) + SafeString(last)
