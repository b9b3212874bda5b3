"""Updates that wait for their invoice to be paid (payment_behavior=pending_if_incomplete)."""

from sandbox import ranks
from sandbox.agenda import due
from sandbox.invoices.invoicing import void
from sandbox.state import Sandbox
from sandbox.store import Object, copied
from sandbox.subscriptions.subscribing import items_of, plan_period_end, tell

PENDING_FOR = 23 * 3600
# Of the subscription itself, what such an update may change.
FIELDS = ("billing_cycle_anchor", "trial_end", "trial_start", "status", "_items")

Snapshot = dict[str, Object]


def awaits(subscription: Object, invoice: Object) -> bool:
    """Return whether an update of the subscription waits for this invoice."""
    return bool((subscription.get("_pending") or {}).get("invoice") == invoice["id"])


def snapshot(state: Sandbox, subscription: Object) -> Snapshot:
    """Return what an update may change, to be put back or applied later."""
    return {
        "fields": copied({name: subscription[name] for name in FIELDS}),
        "items": {item["id"]: copied(item) for item in items_of(state, subscription)},
    }


def restore(state: Sandbox, subscription: Object, kept: Snapshot) -> None:
    """Make a subscription and its items what a snapshot says. Items it does not know are removed."""
    for identifier in subscription["_items"]:
        if identifier not in kept["items"]:
            state.store.remove("subscription_item", identifier)
    subscription.update(copied(kept["fields"]))
    for item in kept["items"].values():
        state.put(copied(item))
    state.put(subscription)
    plan_period_end(state, subscription)


def hold_back(
    state: Sandbox, subscription: Object, *, before: Snapshot, invoice: Object, anchored: bool
) -> None:
    """Undo an update that has been made, and keep it until its invoice is paid.

    It is kept for 23 hours, or until a period ends.
    """
    after = snapshot(state, subscription)
    restore(state, subscription, before)
    ends = [each["current_period_end"] for each in items_of(state, subscription)]
    expires_at = min(state.now() + PENDING_FOR, *ends)
    fields = after["fields"]
    subscription["_pending"] = {"invoice": invoice["id"], "after": after}
    subscription["pending_update"] = {
        "billing_cycle_anchor": fields["billing_cycle_anchor"] if anchored else None,
        "discount": None,
        "discounts": [],
        "expires_at": expires_at,
        "metadata": {},
        "subscription_items": [
            {name: value for name, value in item.items() if not name.startswith("_")}
            | {"price": state.render(state.get("price", item["price"]))}
            for item in after["items"].values()
        ],
        "trial_end": fields["trial_end"] if fields["trial_end"] != subscription["trial_end"] else None,
        "trial_from_plan": None,
    }
    state.agenda.set("subscription.pending_update_expire", subscription["id"], expires_at)
    state.put(subscription)


def apply_pending_update(state: Sandbox, subscription: Object) -> None:
    """The invoice has been paid: make the update now, as it was worked out when it was asked for."""
    after = subscription["_pending"].get("after")
    subscription.update(pending_update=None, _pending=None)
    state.agenda.drop("subscription.pending_update_expire", identifier=subscription["id"])
    if after is None:
        state.put(subscription)
        return
    restore(state, subscription, after)
    tell(state, subscription)
    state.emit("customer.subscription.pending_update_applied", subscription)


def drop_pending_update(state: Sandbox, subscription: Object) -> None:
    """Give an update up, and void the invoice it waited for."""
    pending = subscription["_pending"]
    if pending is None:
        return
    subscription.update(pending_update=None, _pending=None)
    state.agenda.drop("subscription.pending_update_expire", identifier=subscription["id"])
    invoice = state.find("invoice", pending["invoice"])
    if invoice is not None and invoice["status"] == "open":
        void(state, invoice)
    tell(state, subscription)
    state.emit("customer.subscription.pending_update_expired", subscription)


@due("subscription.pending_update_expire", rank=ranks.EXPIRY)
def expire_pending_update(state: Sandbox, identifier: str) -> None:
    drop_pending_update(state, state.get("subscription", identifier))
