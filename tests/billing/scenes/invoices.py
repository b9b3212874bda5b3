"""Payments that fail, arrive, or are no longer wanted."""

from djstripe import models as djstripe

from billing.models import Access
from billing.stripe.client import get_client
from tests.billing.scenes.steps import brings, fail_renewal, mirrored, open_invoice, state, subscribed
from tests.billing.stage import DAY, HOUR, Stage

# Wants the customer's consent at each payment.
CONSENT_CARD = "pm_card_authenticationRequired"


@brings("invoice.created")
def a_draft(stage: Stage) -> None:
    subscribed(stage)
    stage.go(stage.entitlement.period_end)
    stage.hear_only("invoice.created")
    assert djstripe.Invoice.objects.filter(stripe_data__status="draft").exists()


@brings("invoice.finalized")
def a_finalized_invoice(stage: Stage) -> None:
    subscribed(stage)
    renewal = stage.entitlement.period_end
    fail_renewal(stage)
    stage.hear_only("invoice.finalized")
    invoice = mirrored(open_invoice(stage), djstripe.Invoice)
    assert invoice["status_transitions"]["finalized_at"] == int((renewal + HOUR).timestamp())


def owing(stage: Stage) -> None:
    subscribed(stage)
    fail_renewal(stage)
    stage.hear_only("invoice.payment_failed")
    assert stage.entitlement.status == "past_due"


@brings("invoice.marked_uncollectible")
def an_invoice_written_off(stage: Stage) -> None:
    owing(stage)
    get_client().v1.invoices.mark_uncollectible(open_invoice(stage))
    stage.hear_only("invoice.marked_uncollectible")
    assert state(stage) == ("active", Access.FULL, "pro")


@brings("invoice.voided")
def an_invoice_withdrawn(stage: Stage) -> None:
    owing(stage)
    get_client().v1.invoices.void_invoice(open_invoice(stage))
    stage.hear_only("invoice.voided")
    assert mirrored(stage.subscription["latest_invoice"], djstripe.Invoice)["status"] == "void"
    assert stage.entitlement.status == stage.subscription["status"]


@brings("invoice.paid")
def a_paid_invoice(stage: Stage) -> None:
    owing(stage)
    stage.go(8 * DAY)
    stage.beat()
    assert state(stage) == ("past_due", Access.LIMITED, "free")
    stage.pay()
    stage.hear_only("invoice.paid")
    assert state(stage) == ("active", Access.FULL, "pro")


@brings("invoice.payment_action_required")
def a_payment_that_wants_consent(stage: Stage) -> None:
    subscribed(stage)
    fail_renewal(stage, CONSENT_CARD)
    stage.hear_only("invoice.payment_action_required")
    assert state(stage) == ("past_due", Access.FULL, "pro")


@brings("invoice.payment_failed")
def a_failed_payment(stage: Stage) -> None:
    owing(stage)
    assert state(stage) == ("past_due", Access.FULL, "pro")


@brings("invoice.updated")
def a_changed_invoice(stage: Stage) -> None:
    owing(stage)
    invoice = open_invoice(stage)
    assert mirrored(invoice, djstripe.Invoice)["next_payment_attempt"]
    stage.go(16 * DAY)
    stage.hear_only("invoice.updated")
    assert mirrored(invoice, djstripe.Invoice)["next_payment_attempt"] is None
