"""The proof that what was used is what is billed, over the API."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api.base import ManagementView, StrictSerializer
from billing.api.problems import READING, problems
from billing.models import Meter
from usage.api.queries import asked
from usage.models import Correction, Proof
from usage.proof.asking import ask_for_count
from usage.proof.telling import PAGE, Told, list_proofs


class ProofQuerySerializer(StrictSerializer):
    limit = serializers.IntegerField(min_value=1, max_value=100, default=PAGE)
    cursor = serializers.CharField(
        default="", allow_blank=True, help_text="`next_cursor` of the page before."
    )
    meter = serializers.CharField(default="", allow_blank=True, help_text="Only this meter, by its slug.")


class CorrectionSerializer(serializers.Serializer[Correction]):
    units = serializers.IntegerField(help_text="Below 0: units that were billed and should not have been.")
    amount = serializers.IntegerField(help_text="In the currency's minor unit, below 0 for a credit.")
    currency = serializers.CharField(help_text="ISO 4217, in small letters. Empty where nothing is charged.")
    description = serializers.CharField(help_text="As the invoice says it.")
    created_at = serializers.DateTimeField()
    message = serializers.CharField(help_text="Where it is billed, in a sentence.")


class ProofSerializer(serializers.Serializer[Any]):
    meter = serializers.CharField()
    period_start = serializers.DateTimeField()
    period_end = serializers.DateTimeField()
    status = serializers.ChoiceField(
        Proof.Status.values,
        help_text="`proven`: all figures agree. `running`: they do, and the period is open. `waiting`: it is over, "
        "and something is still on its way. `differs`: they do not agree. `accepted`: they do not, and it was "
        "looked into: nothing more comes of it.",
    )
    ledger = serializers.IntegerField(
        allow_null=True, help_text="Units of every single call or event, added up. Null: not kept any more."
    )
    rollups = serializers.IntegerField(help_text="Units by our hourly sums, which all pages go by.")
    reported = serializers.IntegerField(help_text="Units that were reported to the payment provider.")
    counted = serializers.IntegerField(
        allow_null=True, help_text="Units that the provider has counted. Null: it does not know you yet."
    )
    invoiced = serializers.IntegerField(
        allow_null=True,
        help_text="Units on invoices. Null: none of it is on one yet, or none is due: see `to_invoice`.",
    )
    on_its_way = serializers.IntegerField(help_text="Units that have not been reported yet.")
    to_invoice = serializers.IntegerField(help_text="Units for an invoice that is to come.")
    corrected = serializers.IntegerField(help_text="Units on later invoices, as corrections.")
    corrections = CorrectionSerializer(many=True)
    message = serializers.CharField(help_text="What the figures come to, in plain words.")
    checked_at = serializers.DateTimeField(help_text="When all was last counted anew.")


class ProofPageSerializer(serializers.Serializer[Any]):
    data = ProofSerializer(many=True)  # type: ignore[assignment]  # DRF takes declared fields off the class.
    is_counting = serializers.BooleanField(
        help_text="A count anew is on its way, because the last is more than ten minutes old: ask again in a moment."
    )
    next_cursor = serializers.CharField(
        allow_null=True, help_text="Send it as `cursor` for the next page. Null: this is the last one."
    )


def represent(told: Told) -> dict[str, Any]:
    proof = told.proof
    return {
        "meter": proof.meter_id,
        "period_start": proof.period_start,
        "period_end": proof.period_end,
        "status": proof.status,
        "ledger": proof.ledger,
        "rollups": proof.rollups,
        "reported": proof.reported,
        "counted": proof.stripe,
        "invoiced": proof.invoiced,
        "on_its_way": proof.on_its_way,
        "to_invoice": proof.to_invoice,
        "corrected": proof.corrected,
        "corrections": [
            {
                "units": each.units,
                "amount": each.amount,
                "currency": each.currency,
                "description": each.description,
                "created_at": each.created_at,
                "message": told.correction_said(each),
            }
            for each in told.corrections
        ],
        "message": told.message,
        "checked_at": proof.checked_at,
    }


class UsageProof(ManagementView):
    read_scope = "usage:read"

    @extend_schema(
        operation_id="list_usage_proofs",
        summary="Proof that what you used is what you are billed",
        description="A row for each meter and period, the newest first: what was counted, reported, counted again by "
        "the payment provider, and invoiced. It is all counted anew each night, and for who asks: see `is_counting`.",
        parameters=[ProofQuerySerializer],
        responses={200: ProofPageSerializer, **problems(*READING, "invalid")},
        tags=["usage"],
    )
    def get(self, request: Request) -> Response:
        query = asked(ProofQuerySerializer, request)
        if query["meter"] and not Meter.objects.filter(slug=query["meter"]).exists():
            raise serializers.ValidationError({"meter": ["There is no such meter."]})
        try:
            page = list_proofs(
                self.organization, limit=query["limit"], after=query["cursor"], meter=query["meter"]
            )
        except LookupError as error:
            raise serializers.ValidationError({"cursor": ["This is no cursor of yours."]}) from error
        content = {
            "data": [represent(told) for told in page.proofs],
            "next_cursor": page.next or None,
            "is_counting": ask_for_count(self.organization),
        }
        return Response(ProofPageSerializer(content).data)
