"""What a Checkout session does: expire, fail a card, or turn into a paid subscription."""

from typing import Any

from sandbox import ranks
from sandbox.agenda import due
from sandbox.cards import Decline
from sandbox.clock import add_interval
from sandbox.paying import confirm, decline_of, new_intent
from sandbox.resources.customers import new_customer
from sandbox.resources.payment_methods import attach, new_card
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.subscribing import Wanted, build, first_invoice, settle

EXPIRES_AFTER = 24 * 3600


def wanted_of(state: Sandbox, session: Object) -> list[Wanted]:
    return [Wanted(state.get("price", line["price"]), line["quantity"]) for line in session["_lines"]]


def due_today(state: Sandbox, session: Object) -> int:
    """Return what completing the session charges, in minor units."""
    if trial_end_of(state, session) is not None:
        return 0
    return sum(each.amount() for each in wanted_of(state, session))


def trial_end_of(state: Sandbox, session: Object) -> int | None:
    given = session["_subscription_data"]
    days = given.get("trial_period_days")
    end: int | None = given.get("trial_end")
    return state.now() + days * 86400 if days else end


def needs_card(state: Sandbox, session: Object) -> bool:
    return session["payment_method_collection"] != "if_required" or due_today(state, session) > 0


def renewal_text(price: Object) -> str:
    recurring = price["recurring"]
    count = recurring["interval_count"]
    return recurring["interval"] if count == 1 else f"{count} {recurring['interval']}s"


def complete(
    state: Sandbox, session: Object, *, email: str, name: str | None, card: dict[str, Any] | None
) -> Decline | None:
    """Pay and subscribe. Returns None once the session is complete, or why the card was declined.

    A decline leaves the session open and no subscription behind, only the failed payment.
    `card` holds number, exp_month and exp_year; None where no card is needed.
    """
    customer, is_new = _customer(state, session, email=email, name=name)
    method = None
    if card is not None:
        method = new_card(
            state,
            card["number"],
            exp_month=card["exp_month"],
            exp_year=card["exp_year"],
            details={"email": email, "name": name},
        )
        decline = _trial_of_card(state, session, method, customer=None if is_new else customer["id"])
        if decline is not None:
            return decline
    if is_new:
        state.create(customer, event="customer.created")
    if method is not None:
        attach(state, method, customer=customer)
    subscription, invoice = _subscribe(state, session, customer, method)
    session.update(
        customer=customer["id"],
        subscription=subscription["id"],
        invoice=invoice["id"] if invoice else None,
        status="complete",
        url=None,
        payment_status="paid" if invoice and invoice["amount_paid"] else "no_payment_required",
        customer_details={**_details(customer), "email": email, "name": name},
    )
    state.put(session)
    state.emit("checkout.session.completed", session)
    return None


def _customer(state: Sandbox, session: Object, *, email: str, name: str | None) -> tuple[Object, bool]:
    if session["customer"] is not None:
        return state.get_customer(session["customer"]), False
    return new_customer(state, email=email, name=name), True


def _trial_of_card(
    state: Sandbox, session: Object, method: Object, *, customer: str | None
) -> Decline | None:
    """Return why the card would be declined, leaving the failed payment on record, else None."""
    if decline_of(method) is None:
        return None
    intent = new_intent(
        state,
        amount=due_today(state, session),
        currency=session["currency"],
        customer=customer,
        description="Subscription creation",
    )
    return confirm(state, intent, method)


def _details(customer: Object) -> Object:
    return {
        "address": customer["address"],
        "business_name": None,
        "email": customer["email"],
        "individual_name": None,
        "name": customer["name"],
        "phone": customer["phone"],
        "tax_exempt": customer["tax_exempt"],
        "tax_ids": [],
    }


def _subscribe(
    state: Sandbox, session: Object, customer: Object, method: Object | None
) -> tuple[Object, Object | None]:
    given = session["_subscription_data"]
    subscription = build(
        state,
        customer=customer,
        wanted=wanted_of(state, session),
        trial_end=trial_end_of(state, session),
        metadata=dict(given.get("metadata") or {}),
        description=given.get("description"),
    )
    subscription["trial_settings"] = given.get("trial_settings", subscription["trial_settings"])
    state.emit("customer.subscription.created", subscription)
    before = state.render(subscription)
    invoice = first_invoice(state, subscription, customer=state.get("customer", customer["id"]))
    subscription["default_payment_method"] = method["id"] if method else None
    settle(state, subscription, invoice, method)
    state.update(subscription, before=before, event="customer.subscription.updated")
    return subscription, invoice


def expire(state: Sandbox, session: Object) -> None:
    session.update(status="expired", url=None)
    state.put(session)
    state.agenda.drop("checkout.session.expire", identifier=session["id"])
    state.emit("checkout.session.expired", session)


@due("checkout.session.expire", rank=ranks.EXPIRY)
def expire_when_due(state: Sandbox, identifier: str) -> None:
    session = state.get("checkout.session", identifier)
    if session["status"] == "open":
        expire(state, session)


def next_charge(state: Sandbox, session: Object) -> int:
    """Return when the next period begins, in unix seconds, for the page to tell."""
    trial = trial_end_of(state, session)
    if trial is not None:
        return trial
    recurring = wanted_of(state, session)[0].price["recurring"]
    return add_interval(state.now(), interval=recurring["interval"], count=recurring["interval_count"])
