"""What the endpoints of the subscription take and answer."""

from typing import Any

from rest_framework import serializers

from billing.api.base import StrictSerializer
from billing.api.fields import CurrencyField, IntervalField, PlanField
from billing.models import Access, Entitlement, PlanPrice
from billing.standing import Standing

MINOR = "In the currency's minor unit: 2900 is $29.00."
CREDIT = f"{MINOR} Below 0 for a credit."


class SubscribeRequestSerializer(StrictSerializer):
    plan = PlanField()
    interval = IntervalField(default=PlanPrice.Interval.MONTH)
    currency = CurrencyField(default="usd")


class ChangeQuerySerializer(StrictSerializer):
    plan = PlanField()
    interval = IntervalField(
        required=False, help_text="How often the fee is charged. Left out: as often as now."
    )


class ChangeRequestSerializer(ChangeQuerySerializer):
    token = serializers.CharField(
        required=False,
        max_length=2_000,
        help_text="Of the preview that was agreed to. Where the amounts have changed since, nothing is done and the "
        "answer is `preview_outdated`. Left out: change whatever it costs.",
    )


class EndQuerySerializer(StrictSerializer):
    when = serializers.ChoiceField(
        ["period_end", "now"],
        default="period_end",
        help_text="`period_end`: it runs out with what is paid for, and can be resumed until then. `now`: usage so "
        "far is invoiced, and what was paid for the rest is credited.",
    )


class NewSubscriptionSerializer(serializers.Serializer[Any]):
    subscription_id = serializers.CharField()
    status = serializers.CharField(
        help_text="`incomplete` until it is paid; `trialing` where it begins with a trial."
    )
    client_secret = serializers.CharField(
        allow_null=True,
        help_text="For Stripe.js in your customer's browser, to confirm `intent`. Never stored here. Null where "
        "there is nothing to confirm.",
    )
    intent = serializers.ChoiceField(
        ["payment", "setup", ""],
        help_text="What `client_secret` is of: a payment, the set-up of a card for later, or nothing.",
    )


class ScheduledChangeSerializer(serializers.Serializer[Any]):
    plan = serializers.CharField(source="plan.slug")
    interval = IntervalField()
    at = serializers.DateTimeField()


class PendingUpgradeSerializer(serializers.Serializer[Any]):
    plan = serializers.CharField(source="plan.slug")
    interval = IntervalField()
    amount = serializers.IntegerField(help_text=MINOR)
    payment_url = serializers.CharField(allow_blank=True, help_text="The page on which to pay for it.")
    expires_at = serializers.DateTimeField(help_text="When it is dropped without a payment.")


class PaymentMethodSerializer(serializers.Serializer[Any]):
    brand = serializers.CharField(help_text="Of a card, such as visa; else the kind, such as sepa_debit.")
    last4 = serializers.CharField(allow_blank=True)
    exp_month = serializers.IntegerField(allow_null=True)
    exp_year = serializers.IntegerField(allow_null=True)


class OpenInvoiceSerializer(serializers.Serializer[Any]):
    id = serializers.CharField()
    amount = serializers.IntegerField(help_text=f"What remains to be paid. {MINOR}")
    currency = serializers.CharField()
    url = serializers.CharField(allow_blank=True, help_text="The page on which to pay it.")


class SubscriptionSerializer(serializers.Serializer[Any]):
    subscription_id = serializers.CharField(allow_null=True, help_text="Null without a subscription.")
    status = serializers.CharField(
        help_text="Stripe's status of the subscription; `none` where there never was one."
    )
    plan = serializers.CharField(help_text="The plan that is paid for.")
    limits_of = serializers.CharField(
        help_text="The plan whose limits apply: another one than `plan` where a payment is missing."
    )
    access = serializers.ChoiceField(
        Access.choices,
        help_text="`full`: what was bought; `limited`: the free plan's limits; `none`: no calls.",
    )
    message = serializers.CharField(
        allow_blank=True, help_text="What the customer should know, in a sentence."
    )
    grace_ends_at = serializers.DateTimeField(
        allow_null=True, help_text="When the access shrinks unless a payment comes."
    )
    interval = IntervalField(allow_null=True)
    currency = serializers.CharField(allow_null=True)
    unit_amount = serializers.IntegerField(allow_null=True, help_text=f"The flat fee each interval. {MINOR}")
    current_period_end = serializers.DateTimeField(
        allow_null=True, help_text="When the next fee falls due, or the subscription ends."
    )
    trial_ends_at = serializers.DateTimeField(allow_null=True)
    cancels_at = serializers.DateTimeField(allow_null=True, help_text="When it ends by itself.")
    scheduled_change = ScheduledChangeSerializer(allow_null=True, help_text="A change that is still to come.")
    pending_upgrade = PendingUpgradeSerializer(
        allow_null=True, help_text="An upgrade that waits for its payment."
    )
    payment_method = PaymentMethodSerializer(allow_null=True)
    open_invoice = OpenInvoiceSerializer(allow_null=True, help_text="What is owed.")


class PreviewLineSerializer(serializers.Serializer[Any]):
    description = serializers.CharField()
    amount = serializers.IntegerField(help_text=CREDIT)


class ChangePreviewSerializer(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(
        ["upgrade", "downgrade", "switch_in_trial"],
        help_text="`upgrade`: at once, once it is paid. `downgrade`: at the end of what is paid for. "
        "`switch_in_trial`: at once, and nothing is charged before the trial ends.",
    )
    plan = serializers.CharField(source="plan.slug")
    interval = IntervalField()
    amount_due = serializers.IntegerField(help_text=f"What is charged now. {CREDIT}")
    currency = serializers.CharField()
    lines = PreviewLineSerializer(many=True, help_text="They add up to `amount_due`.")
    effective_at = serializers.DateTimeField()
    next_amount = serializers.IntegerField(help_text=f"The next regular fee. {MINOR}")
    next_at = serializers.DateTimeField(
        allow_null=True, help_text="When it falls due. Null: the change is an end."
    )
    next_lines = PreviewLineSerializer(many=True, help_text="They add up to `next_amount`.")
    token = serializers.CharField(
        help_text="Send it with the change, to agree to these amounts and no others."
    )


class CancelPreviewSerializer(serializers.Serializer[Any]):
    amount_due = serializers.IntegerField(help_text=f"What the last invoice charges. {CREDIT}")
    currency = serializers.CharField()
    lines = PreviewLineSerializer(many=True)


class OutcomeSerializer(serializers.Serializer[Any]):
    outcome = serializers.ChoiceField(
        ["done", "scheduled", "requires_action"],
        help_text="`requires_action`: the payment waits for the customer, on the page at `payment_url`.",
    )
    payment_url = serializers.CharField(allow_blank=True)
    subscription = SubscriptionSerializer()


def represent(entitlement: Entitlement, standing: Standing | None, *, message: str) -> dict[str, Any]:
    """Return the subscription as the API shows it, with or without one."""
    return {
        "subscription_id": standing.subscription_id if standing else None,
        "status": standing.status if standing else entitlement.status,
        "plan": standing.plan.slug if standing else entitlement.plan.slug,
        "limits_of": entitlement.plan.slug,
        "access": entitlement.access,
        "message": message,
        "grace_ends_at": entitlement.grace_end,
        "interval": standing.interval if standing else None,
        "currency": standing.currency if standing else None,
        "unit_amount": standing.fee_amount if standing else None,
        "current_period_end": standing.period_end if standing else None,
        "trial_ends_at": standing.trial_ends_at if standing else None,
        "cancels_at": standing.cancels_at if standing else None,
        "scheduled_change": standing.scheduled_change if standing else None,
        "pending_upgrade": standing.pending_upgrade if standing else None,
        "payment_method": standing.payment_method if standing else None,
        "open_invoice": standing.open_invoice if standing else None,
    }
