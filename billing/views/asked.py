"""What a page was asked for: plan, interval and currency from a query or a form, refused where they are malformed."""

import re

from django.http import Http404, QueryDict
from django.shortcuts import get_object_or_404

from billing.models import Plan, PlanPrice

SLUG = re.compile(r"[a-z0-9_]{1,40}")
CURRENCY = re.compile(r"[a-z]{3}")


def plan_asked(data: QueryDict) -> Plan:
    """Return the public plan that is named. Raises Http404."""
    slug = data.get("plan", "")
    if not SLUG.fullmatch(slug):
        raise Http404("There is no such plan.")
    return get_object_or_404(Plan.objects.public().prefetch_related("quotas__meter", "prices"), slug=slug)


def interval_asked(data: QueryDict) -> str:
    """Return month or year. Raises Http404 for anything else."""
    interval = data.get("interval", PlanPrice.Interval.MONTH)
    if interval not in PlanPrice.Interval.values:
        raise Http404("Nothing is sold by this interval.")
    return interval


def currency_asked(data: QueryDict) -> str:
    """Return the code of a currency, which need not be one that anything is sold in. Raises Http404."""
    currency = data.get("currency", "usd")
    if not CURRENCY.fullmatch(currency):
        raise Http404("There is no such currency.")
    return currency
