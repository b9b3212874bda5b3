"""What the guard of trials asks Stripe and tells it: whose card it is, and that a second trial ends."""

import stripe
from djstripe import models as djstripe

from accounts import clock
from billing.entitlements import refresh_entitlement
from billing.locks import customer_lock
from billing.models import Trial
from billing.stripe.client import get_client, translated_errors
from billing.stripe.subscriptions import cancel_subscription
from billing.trials import card_marks, claim, fingerprint, lock_trial, refuse, settle_trials

COMMENT = "Ended by Tollgate before any charge: {reason}."


def check_trial(trial: Trial) -> Trial:
    """Hold the trial's card against those of earlier trials, and end the trial where it is a second one.

    Returns the row as it is then. May be repeated at any time, and after any failure: what was decided is
    kept before Stripe is told, and Stripe is asked before it is told. Raises StripeUnavailable or
    StripeRejected.
    """
    customer_id = customer_of(trial)
    with translated_errors(), customer_lock(customer_id):
        subscription = fetch(trial)
        cards = payment_methods(customer_id) if subscription else []
        settle_trials(trial.organization)
        trial = lock_trial(trial.pk)
        # One that was refused claims no more: its card must not cost the trial it lost to.
        if trial.card_seen_at is None and trial.outcome != Trial.Outcome.REFUSED:
            is_trialing = subscription is not None and subscription.status == "trialing"
            if cards or not is_trialing:
                claim(trial, card_marks(found for card in cards if (found := fingerprint(card))))
                trial.card_seen_at = clock.now()
                trial.save(update_fields=["card_seen_at"])
            elif trial.is_guarded and trial.lacks_card(clock.now()):
                refuse(trial, Trial.Reason.NO_CARD)
    # Only now that it is decided for good: were it undone after the call, the next try might decide otherwise.
    if trial.outcome == Trial.Outcome.REFUSED and trial.settled_at is None:
        with translated_errors(), customer_lock(customer_id):
            end_trial(trial)
    refresh_entitlement(trial.organization)
    trial.refresh_from_db()
    return trial


def end_trial(trial: Trial) -> None:
    """Cancel the trial's subscription if it is still a trial: nothing has been charged, and nothing will be."""
    subscription = fetch(trial)
    if subscription and subscription.status == "trialing":
        comment = COMMENT.format(reason=trial.get_reason_display().lower())
        cancel_subscription(trial.subscription_id, cancellation_details={"comment": comment})
        subscription = fetch(trial)
    settle_trials(trial.organization)
    if subscription is None:
        Trial.objects.filter(pk=trial.pk).update(settled_at=clock.now())


def customer_of(trial: Trial) -> str:
    subscription = djstripe.Subscription.objects.select_related("customer").get(id=trial.subscription_id)
    return str(subscription.customer.id)


def fetch(trial: Trial) -> stripe.Subscription | None:
    """Fetch the trial's subscription into the mirror and return it, None where Stripe has it no more."""
    try:
        data = get_client().v1.subscriptions.retrieve(trial.subscription_id)
    except stripe.InvalidRequestError as error:
        if error.code == "resource_missing":
            return None
        raise
    djstripe.Subscription.sync_from_stripe_data(data)
    return data


def payment_methods(customer_id: str) -> list[dict[str, object]]:
    listed = get_client().v1.customers.payment_methods.list(customer_id, {"limit": 100})
    return [method.to_dict() for method in listed.auto_paging_iter()]
