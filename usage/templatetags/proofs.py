from django import template
from django.utils.text import capfirst

from usage.proof.titles import title_of

register = template.Library()


@register.filter
def cause_title(code: str) -> str:
    """Return what a cause is called, as in “Missing on invoices”."""
    return capfirst(title_of(code))
