"""The card a subscription keeps for itself: that of a payment, or of the setup intent it began with."""

from sandbox.payments.cards import Decline
from sandbox.payments.setting_up import new_setup_intent, when_set_up
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.subscriptions.subscribing import tell


def keep_card(state: Sandbox, subscription: Object, method: str | None) -> None:
    """Make a card the subscription's default where it asks for that (save_default_payment_method)."""
    saves = subscription["payment_settings"]["save_default_payment_method"] == "on_subscription"
    if saves and method is not None and subscription["default_payment_method"] != method:
        subscription["default_payment_method"] = method
        tell(state, subscription)


def ask_for_card(state: Sandbox, subscription: Object, *, customer: str) -> None:
    """Prepare the setup of a card for a subscription that has nothing to pay yet and no card to pay with."""
    intent = new_setup_intent(state, customer=customer, _subscription=subscription["id"])
    subscription["pending_setup_intent"] = intent["id"]
    tell(state, subscription)


@when_set_up
def hear_of_setup(state: Sandbox, intent: Object, decline: Decline | None) -> None:
    subscription = state.find("subscription", intent.get("_subscription") or "")
    if subscription is None or intent["status"] != "succeeded":
        return
    subscription["pending_setup_intent"] = None
    keep_card(state, subscription, intent["payment_method"])
    tell(state, subscription)
