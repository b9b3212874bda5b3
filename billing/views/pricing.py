"""What there is to buy: the front page and the price list."""

from uuid import uuid4

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from accounts.tenancy import find_membership
from billing.price_list import open_price_list


@login_not_required
@require_safe
def home(request: HttpRequest) -> HttpResponse:
    return render(request, "billing/home.html", {"price_list": open_price_list()})


@login_not_required
@require_safe
def pricing(request: HttpRequest) -> HttpResponse:
    membership = find_membership(request)
    return render(
        request,
        "billing/pricing.html",
        {
            "price_list": open_price_list(
                membership.organization if membership else None,
                interval=request.GET.get("interval", ""),
                currency=request.GET.get("currency", ""),
            ),
            "attempt": str(uuid4()),
            "can_manage_billing": bool(membership and membership.get_role().manages_billing),
        },
    )
