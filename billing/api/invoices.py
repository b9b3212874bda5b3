from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api.base import BillingView, StrictSerializer, checked
from billing.api.problems import READING, problems
from billing.invoices import PAGE, Invoice, InvoiceLine, get_invoice, list_invoices

MINOR = "In the currency's minor unit."


class InvoiceSerializer(serializers.Serializer[Invoice]):
    id = serializers.CharField()
    number = serializers.CharField()
    status = serializers.ChoiceField(["open", "paid", "uncollectible", "void"])
    currency = serializers.CharField(help_text="ISO 4217, in small letters.")
    subtotal = serializers.IntegerField(help_text=f"{MINOR} Before discounts and taxes.")
    total = serializers.IntegerField(help_text=f"{MINOR} Below 0 for a credit.")
    amount_due = serializers.IntegerField(help_text=f"{MINOR} The total without what a balance paid.")
    amount_paid = serializers.IntegerField(help_text=MINOR)
    amount_remaining = serializers.IntegerField(help_text=f"{MINOR} What is still to be paid.")
    created = serializers.DateTimeField()
    hosted_invoice_url = serializers.CharField(
        allow_blank=True, help_text="The page on which it is shown, and paid where it is open."
    )
    invoice_pdf = serializers.CharField(allow_blank=True)


class InvoiceLineSerializer(serializers.Serializer[InvoiceLine]):
    description = serializers.CharField(allow_blank=True)
    amount = serializers.IntegerField(help_text=f"{MINOR} Below 0 for a credit.")
    quantity = serializers.IntegerField(allow_null=True)
    period_start = serializers.DateTimeField()
    period_end = serializers.DateTimeField()


class InvoiceDetailSerializer(InvoiceSerializer):
    lines = InvoiceLineSerializer(many=True, help_text="The first lines; the page and the PDF have all.")
    has_more_lines = serializers.BooleanField()


class InvoicePageSerializer(serializers.Serializer[Any]):
    data = InvoiceSerializer(many=True)  # type: ignore[assignment]  # DRF takes declared fields off the class.
    next_cursor = serializers.CharField(
        allow_null=True, help_text="Send it as `cursor` for the next page. Null: this is the last one."
    )


class PageQuerySerializer(StrictSerializer):
    limit = serializers.IntegerField(min_value=1, max_value=100, default=PAGE)
    cursor = serializers.CharField(
        default="", allow_blank=True, help_text="`next_cursor` of the page before."
    )


class Invoices(BillingView):
    @extend_schema(
        operation_id="list_invoices",
        summary="Your invoices, the newest first",
        description="As last heard of from the payment provider. Drafts are not listed.",
        parameters=[PageQuerySerializer],
        responses={200: InvoicePageSerializer, **problems(*READING, "invalid")},
        tags=["invoices"],
    )
    def get(self, request: Request) -> Response:
        asked = checked(PageQuerySerializer, request.query_params.dict())
        try:
            page = list_invoices(self.organization, limit=asked["limit"], after=asked["cursor"])
        except LookupError as error:
            raise serializers.ValidationError({"cursor": ["This is no cursor of yours."]}) from error
        return Response(InvoicePageSerializer({"data": page.invoices, "next_cursor": page.next or None}).data)


class InvoiceDetail(BillingView):
    @extend_schema(
        operation_id="retrieve_invoice",
        summary="One of your invoices, with its lines",
        responses={200: InvoiceDetailSerializer, **problems(*READING, "not_found")},
        tags=["invoices"],
    )
    def get(self, request: Request, invoice_id: str) -> Response:
        try:
            invoice = get_invoice(self.organization, invoice_id)
        except LookupError as error:
            raise NotFound("You have no such invoice.") from error
        return Response(InvoiceDetailSerializer(invoice).data)
