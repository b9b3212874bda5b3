"""Subscribers on older prices, from the back office: who is on which, and moving them."""

from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import action

from accounts.admin import ReadOnlyAdmin
from billing.errors import NotPublished
from billing.models import Plan, PriceMove, SubscriberMove
from billing.moves import older_prices, order_move, say_price
from billing.tasks import begin_price_move, enqueue

State = SubscriberMove.State


class MovingViews(ModelAdmin):
    """Of a plan's page: Subscribers on older prices."""

    @action(description="Older prices…", url_path="older-prices", icon="groups", permissions=["change"])
    def move_subscribers(self, request: HttpRequest, object_id: str) -> HttpResponse:
        plan: Plan = self.find_plan(request, object_id)
        if request.method == "POST":
            return self.order(request, plan)
        context = {
            **self.page_context(request, title=f"Subscribers on older prices of {plan}", subject=plan),
            "older": older_prices(plan),
            "unpublished": [price for price in plan.prices.select_related("meter") if not price.is_published],
            "moves": [(move, say_progress(move)) for move in with_counts(plan.price_moves.all())[:10]],
            "back": reverse("admin:billing_plan_change", args=[plan.pk]),
        }
        return TemplateResponse(request, "admin/billing/plan/older_prices.html", context)

    def order(self, request: HttpRequest, plan: Plan) -> HttpResponse:
        from_price_id = request.POST.get("from_price", "")
        author: Any = request.user
        try:
            move = order_move(plan, from_price_id=from_price_id, author=author)
        except NotPublished as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(request.path)
        if move is None:
            messages.info(request, "There is nobody to move, or they are being moved already.")
            return HttpResponseRedirect(request.path)
        transaction.on_commit(partial(enqueue, begin_price_move, move.pk))
        count = move.rows.count()
        who = f"{count:,} subscribers" if count > 1 else "1 subscriber"
        self.log_change(request, plan, f"Ordered to move {who} to the current prices.")
        return HttpResponseRedirect(reverse("admin:billing_pricemove_change", args=[move.pk]))


def with_counts(moves: QuerySet[PriceMove]) -> QuerySet[PriceMove]:
    counts = {state.value: Count("rows", filter=Q(rows__state=state)) for state in State}
    return moves.annotate(total=Count("rows"), **counts).select_related("plan", "author")


def may_look(request: HttpRequest) -> bool:
    """Whoever may order a move may see what becomes of it."""
    return request.user.has_perm("billing.change_plan") or request.user.has_perm("billing.view_pricemove")


class SubscriberMoveInline(TabularInline):
    model = SubscriberMove
    fields = readonly_fields = ["organization", "subscription_id", "state", "detail", "changed_at"]
    verbose_name_plural = "Subscribers"
    extra = 0
    can_delete = False
    hide_title = True
    per_page = 100

    def get_queryset(self, request: HttpRequest) -> QuerySet[SubscriberMove]:
        rows: QuerySet[SubscriberMove] = super().get_queryset(request)
        return rows.select_related("organization")

    def has_add_permission(self, request: HttpRequest, obj: PriceMove | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: PriceMove | None = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: PriceMove | None = None) -> bool:
        return may_look(request)


@admin.register(PriceMove)
class PriceMoveAdmin(ReadOnlyAdmin):
    """How far a move is. Reached from the plan's page."""

    list_display = ["plan", "from_price", "author", "created_at", "progress"]
    list_filter = ["plan"]
    fields = ["plan", "from_price", "author", "created_at", "progress"]
    inlines = [SubscriberMoveInline]

    def get_queryset(self, request: HttpRequest) -> QuerySet[PriceMove]:
        return with_counts(super().get_queryset(request))

    def has_view_permission(self, request: HttpRequest, obj: PriceMove | None = None) -> bool:
        return may_look(request)

    @admin.display(description="from")
    def from_price(self, move: PriceMove) -> str:
        return say_price(move.from_price_id) if move.from_price_id else "all older prices"

    @admin.display
    def progress(self, move: PriceMove) -> str:
        return say_progress(move)


def say_progress(move: PriceMove) -> str:
    """Return how many of a move's subscribers are how far, those that there are."""
    counts = [(getattr(move, state.value), state.label) for state in State]
    return ", ".join(f"{count:,} {label}" for count, label in counts if count)
