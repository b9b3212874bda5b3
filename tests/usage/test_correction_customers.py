"""Of an organization with two customers at Stripe: the one with the subscription is billed, once."""

import pytest
from djstripe import models as djstripe

from accounts import clock
from billing.entitlements import refresh_entitlement
from billing.stripe.acting import sync_invoice
from billing.stripe.subscriptions import sync_subscriptions
from tests.usage.proving import MAY, of_april, use_late
from usage import corrections
from usage.models import Correction, Proof
from usage.tasks import report_usage, send_corrections

pytestmark = pytest.mark.django_db
State = Correction.State
JUNE = MAY.replace(month=6)


def second_customer(acme, *, card: bool = True) -> str:
    """Make Acme another customer at Stripe, younger than its first; return its id."""
    acme.wait(hours=1)
    made = acme.api.customers.create({"email": "b@acme.example"})
    row = djstripe.Customer.sync_from_stripe_data(made)
    djstripe.Customer.objects.filter(pk=row.pk).update(subscriber=acme.organization)
    if card:
        method = acme.api.payment_methods.attach("pm_card_visa", {"customer": made.id})
        acme.api.customers.update(made.id, {"invoice_settings": {"default_payment_method": method.id}})
    return str(made.id)


def subscribe_as(acme, customer_id, plan) -> None:
    prices = [{"price": each.stripe_price_id} for each in plan.offered_prices(interval="month")]
    acme.api.subscriptions.create({"customer": customer_id, "items": prices})
    see_as(acme, customer_id)


def see_as(acme, customer_id) -> None:
    sync_subscriptions(customer_id)
    for invoice in acme.api.invoices.list({"customer": customer_id}).data:
        sync_invoice(invoice.id)
    refresh_entitlement(acme.organization)


def charged(acme, customer_id) -> int:
    """Return the cents of corrections on the customer's invoices that are paid."""
    invoices = acme.api.invoices.list({"customer": customer_id}).data
    lines = [line for each in invoices if each.status == "paid" for line in each.lines.data]
    return sum(line.amount for line in lines if (line.description or "").startswith("Correction"))


@pytest.fixture
def late(april) -> Correction:
    """A correction of $1.20, not sent."""
    use_late(april, units=12)
    report_usage()
    return corrections.make(corrections.propose(of_april(april)))


@pytest.fixture
def second(april, late, plans) -> str:
    """Another customer, who has the subscription now."""
    april.api.subscriptions.cancel(april.subscription_id)
    april.see()
    second = second_customer(april)
    subscribe_as(april, second, plans.pro)
    return second


def test_a_correction_goes_on_the_next_invoice_of_the_customer_with_the_subscription(april, late, second):
    sent = corrections.send(late.pk)

    assert (sent.state, sent.stripe_customer_id, sent.own_invoice) == (State.SENT, second, "")
    april.wait_until(JUNE.replace(day=3))
    assert charged(april, second) == 120
    assert of_april(april).status == Proof.Status.PROVEN


@pytest.mark.parametrize("fault", ["timeout_after", "server_error_after"])
def test_one_whose_answer_was_lost_is_looked_for_where_it_was_sent(april, late, plans, sandbox, fault):
    first = april.customer_id
    trouble = sandbox.faults.add(fault, method="POST", path="/v1/invoiceitems")
    assert corrections.send(late.pk).state == State.UNKNOWN
    sandbox.faults.remove(trouble.id)
    april.api.subscriptions.cancel(april.subscription_id)
    april.see()
    second = second_customer(april)
    subscribe_as(april, second, plans.pro)

    send_corrections()
    april.wait_until(JUNE.replace(day=3))

    assert (charged(april, first), charged(april, second)) == (120, 0)
    assert april.api.invoice_items.list({"customer": second}).data == []


def test_one_that_waits_with_the_customer_who_left_gets_an_invoice_there(april, late, plans):
    first = april.customer_id
    corrections.send(late.pk)
    april.api.subscriptions.cancel(april.subscription_id)
    april.see()
    second = second_customer(april)
    subscribe_as(april, second, plans.pro)

    send_corrections()
    april.wait(hours=2)

    assert (charged(april, first), charged(april, second)) == (120, 0)


def test_one_that_was_on_its_way_before_its_customer_was_kept_is_looked_for_with_the_first(
    april, late, second
):
    first = april.customer_id
    april.api.invoice_items.create(
        {
            "customer": first,
            "amount": 120,
            "currency": "usd",
            "metadata": {Correction.METADATA_KEY: str(late.pk)},
        }
    )
    Correction.objects.update(state=State.UNKNOWN, claimed_at=clock.now())

    send_corrections()

    late.refresh_from_db()
    assert late.stripe_customer_id == first
    assert april.api.invoice_items.list({"customer": second}).data == []
