"""A customer as billing's staff see it, and what they do for it: the same as the customer could."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from djstripe import models as djstripe
from unfold.decorators import display

from accounts.admin import ReadOnlyAdmin
from billing.dossier import open_dossier
from billing.errors import BillingError, PreviewOutdated, StripeUnavailable
from billing.models import Access, BillingCustomer, Plan
from billing.outlook import day
from billing.standing import find_standing
from billing.stripe import ending
from billing.stripe.changing import change_plan, undo_change
from billing.stripe.previewing import preview_change
from billing.stripe.reconciling import reconcile

MAY_MANAGE = "billing.manage_subscription"
MAY_MEND = "billing.mend"
STATUS_COLOURS = {
    "active": "success",
    "trialing": "info",
    "past_due": "warning",
    "incomplete": "warning",
    "paused": "warning",
    "unpaid": "danger",
}
ACCESS_COLOURS = {Access.FULL: "success", Access.LIMITED: "", Access.NONE: "danger"}


def end_with_period(organization: BillingCustomer) -> str:
    return f"The subscription ends on {day(ending.cancel_at_period_end(organization))}."


def resume(organization: BillingCustomer) -> str:
    ending.resume(organization)
    return "The subscription goes on."


def undo(organization: BillingCustomer) -> str:
    undo_change(organization)
    return "The change was taken back."


def end_now(organization: BillingCustomer) -> str:
    ending.cancel_now(organization)
    return "The subscription has ended, and what was used is invoiced."


def reconcile_now(organization: BillingCustomer) -> str:
    outcome = reconcile(organization)
    done = " ".join(outcome.repaired) or "Nothing differed from Stripe."
    if outcome.problems:
        raise PartlyDone(f"{done} {' '.join(outcome.problems)}")
    return done


class PartlyDone(BillingError):
    """Some of it could not be done. The text says what was and what was not."""


# What it takes to be let in, and what is done; what was done is kept in the history.
DEEDS: dict[str, tuple[str, Callable[[BillingCustomer], str]]] = {
    "reconcile": (MAY_MEND, reconcile_now),
    "end-with-period": (MAY_MANAGE, end_with_period),
    "resume": (MAY_MANAGE, resume),
    "undo-change": (MAY_MANAGE, undo),
    "end-now": (MAY_MANAGE, end_now),
}


@admin.register(BillingCustomer)
class BillingCustomerAdmin(ReadOnlyAdmin):
    list_display = ["name", "ref", "plan", "status", "access", "grace_end", "stripe_customer", "created_at"]
    list_select_related = ["entitlement__plan", "entitlement__bought_plan"]
    list_filter = ["entitlement__plan", "entitlement__status", "entitlement__access"]
    search_fields = [
        "name",
        "ref",
        "email",
        "memberships__user__email",
        "djstripe_customers__id",
        "djstripe_customers__subscriptions__id",
    ]
    search_help_text = "Name, ref, billing e-mail, a member's e-mail, or Stripe's cus_… or sub_… id"
    ordering = ["name", "pk"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[BillingCustomer]:
        known = djstripe.Customer.objects.filter(subscriber=OuterRef("pk"), date_purged=None)
        first = known.order_by("djstripe_created").values("id")[:1]
        customers: QuerySet[BillingCustomer] = super().get_queryset(request)
        return customers.annotate(customer_id=Subquery(first))

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        own = [
            path("<uuid:pk>/do/<slug:deed>/", view(self.do_view), name="billing_billingcustomer_do"),
            path("<uuid:pk>/plan/", view(self.plan_view), name="billing_billingcustomer_plan"),
            path("<uuid:pk>/end/", view(self.end_view), name="billing_billingcustomer_end"),
        ]
        return own + super().get_urls()

    @admin.display(ordering="entitlement__plan__order")
    def plan(self, customer: BillingCustomer) -> str:
        entitlement = customer.entitlement
        bought = entitlement.bought_plan
        if (
            bought
            and bought != entitlement.plan
            and entitlement.status not in {"canceled", "incomplete_expired"}
        ):
            return f"{entitlement.plan} (bought {bought})"
        return str(entitlement.plan)

    @display(description="status", label=STATUS_COLOURS, ordering="entitlement__status")
    def status(self, customer: BillingCustomer) -> tuple[str, str]:
        status = customer.entitlement.status
        return status, status.replace("_", " ")

    @display(description="access", label=ACCESS_COLOURS, ordering="entitlement__access")
    def access(self, customer: BillingCustomer) -> str:
        return customer.entitlement.access

    @admin.display(description="access shrinks", ordering="entitlement__grace_end", empty_value="-")
    def grace_end(self, customer: BillingCustomer) -> str | None:
        return day(customer.entitlement.grace_end) if customer.entitlement.grace_end else None

    @admin.display(description="Stripe's customer", empty_value="-")
    def stripe_customer(self, customer: BillingCustomer) -> str | None:
        found: str | None = customer.customer_id  # type: ignore[attr-defined]
        return found

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        customer = self.get_object(request, object_id)
        if customer is None:
            raise Http404
        if not self.has_view_permission(request, customer):
            raise PermissionDenied
        dossier = open_dossier(customer)
        context = self.context_for(request, customer, title=customer.name) | {
            "dossier": dossier,
            "entitlement": dossier.entitlement,
            "standing": dossier.standing,
            "status_colour": STATUS_COLOURS.get(dossier.entitlement.status, ""),
            "access_colour": ACCESS_COLOURS.get(Access(dossier.entitlement.access), ""),
            "live_keys": customer.api_keys.filter(revoked_at=None).count(),
            "may_manage": request.user.has_perm(MAY_MANAGE),
            "may_mend": request.user.has_perm(MAY_MEND),
            "may_override": request.user.has_perm("billing.add_planoverride"),
            "links": self.links_of(request, customer),
        }
        return TemplateResponse(request, "admin/billing/customer.html", context)

    def context_for(self, request: HttpRequest, customer: BillingCustomer, *, title: str) -> dict[str, Any]:
        return {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.opts,
            "original": customer,
            "organization": customer,
            "back": reverse("admin:billing_billingcustomer_change", args=[customer.pk]),
        }

    def links_of(self, request: HttpRequest, customer: BillingCustomer) -> list[tuple[str, str]]:
        """Return where else staff look, as far as they may."""
        of_customer = urlencode({"q": customer.ref})
        key = str(customer.pk)
        wanted = [
            ("If its card fails", "billing.view_entitlement", "billing_entitlement_timeline", key),
            ("Entitlement", "billing.view_entitlement", "billing_entitlement_change", key),
            ("Organization and members", "accounts.view_organization", "accounts_organization_change", key),
            ("API keys", "apikeys.view_apikey", "apikeys_apikey_changelist", ""),
            ("Usage", "usage.view_usagerollup", "usage_organization", key),
            ("Proof of usage", "usage.view_proof", "usage_proof_changelist", ""),
            ("Meter reports", "usage.view_meterreport", "usage_meterreport_changelist", ""),
            ("E-mails", "billing.view_notice", "billing_notice_changelist", ""),
            ("Overrides", "billing.view_planoverride", "billing_planoverride_changelist", ""),
        ]
        links = []
        for label, permission, name, pk in wanted:
            if request.user.has_perm(permission):
                address = reverse(f"admin:{name}", args=[pk] if pk else [])
                links.append((label, address if pk else f"{address}?{of_customer}"))
        return links

    def do_view(self, request: HttpRequest, pk: UUID, deed: str) -> HttpResponse:
        """Do one of the deeds, and say what came of it."""
        if deed not in DEEDS:
            raise Http404
        permission, do = DEEDS[deed]
        customer = self.get_customer(request, pk, permission=permission, method="POST")
        try:
            said = do(customer)
        except BillingError as error:
            messages.error(request, str(error))
            if isinstance(error, PartlyDone | StripeUnavailable):
                self.log_change(request, customer, f"{deed}: {error}"[:1000])
        else:
            messages.success(request, said)
            self.log_change(request, customer, said[:1000])
        return redirect("admin:billing_billingcustomer_change", customer.pk)

    def get_customer(
        self, request: HttpRequest, pk: UUID, *, permission: str, method: str = ""
    ) -> BillingCustomer:
        """Return the customer. Raises PermissionDenied or Http404."""
        if not request.user.has_perm(permission) or (method and request.method != method):
            raise PermissionDenied
        customer = get_object_or_404(BillingCustomer, pk=pk)
        if not self.has_view_permission(request, customer):
            raise PermissionDenied
        return customer

    def end_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Show what ending now would cost, and what ending with the period would."""
        customer = self.get_customer(request, pk, permission=MAY_MANAGE)
        try:
            preview = ending.preview_cancel_now(customer)
        except BillingError as error:
            messages.error(request, str(error))
            return redirect("admin:billing_billingcustomer_change", customer.pk)
        context = self.context_for(request, customer, title=f"End the subscription of {customer}") | {
            "preview": preview,
            "standing": find_standing(customer),
        }
        return TemplateResponse(request, "admin/billing/customer_end.html", context)

    def plan_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Show what a change of plan would cost; made is what was shown."""
        customer = self.get_customer(request, pk, permission=MAY_MANAGE)
        asked = request.POST if request.method == "POST" else request.GET
        slug, _, interval = asked.get("to", "").partition(":")
        plan = get_object_or_404(Plan, slug=slug)
        if interval not in {"month", "year"}:
            raise Http404
        try:
            if request.method == "POST":
                return self.make_change(request, customer, plan=plan, interval=interval)
            preview = preview_change(customer, plan=plan, interval=interval)
        except PreviewOutdated:
            messages.warning(request, "The amounts have changed. Nothing was changed: look again.")
            return redirect(f"{request.path}?{urlencode({'to': f'{slug}:{interval}'})}")
        except BillingError as error:
            messages.error(request, str(error))
            return redirect("admin:billing_billingcustomer_change", customer.pk)
        context = self.context_for(request, customer, title=f"Change {customer} to {plan}") | {
            "preview": preview,
            "standing": find_standing(customer),
            "to": f"{slug}:{interval}",
        }
        return TemplateResponse(request, "admin/billing/customer_plan.html", context)

    def make_change(
        self, request: HttpRequest, customer: BillingCustomer, *, plan: Plan, interval: str
    ) -> HttpResponse:
        """Make the change that was shown. Raises BillingError."""
        token = request.POST.get("token")
        if not token:
            raise PreviewOutdated("Nothing was agreed to.")
        outcome = change_plan(customer, plan=plan, interval=interval, token=token)
        said = {
            "done": f"{customer} is on {plan} now.",
            "scheduled": f"{customer} moves to {plan} when the period ends.",
            "requires_action": f"The bank wants {customer} to confirm the payment at {outcome.payment_url}. "
            "Nothing has changed until then.",
        }[outcome.state]
        level = messages.WARNING if outcome.state == "requires_action" else messages.SUCCESS
        messages.add_message(request, level, said)
        self.log_change(request, customer, said[:1000])
        return redirect("admin:billing_billingcustomer_change", customer.pk)
