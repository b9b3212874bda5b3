from datetime import datetime, timedelta

from django import template
from django.utils.timesince import timesince

from accounts import clock

register = template.Library()


@register.filter
def ago(moment: datetime) -> str:
    """Return how long ago it was, in one unit: “12 minutes ago”. By our clock, which tests move."""
    now = clock.now()
    if now - moment < timedelta(minutes=1):
        return "just now"
    return f"{timesince(moment, now, depth=1)} ago"


@register.filter
def percent(value: float) -> str:
    """Return a percentage with one decimal, never 0 for what is more, nor 100 for what is less."""
    if 0 < value < 0.1:
        return "less than 0.1 %"
    if 99.9 < value < 100:
        return "more than 99.9 %"
    return f"{value:.1f}".removesuffix(".0") + " %"
