"""Every type of Stripe's events that Tollgate depends on, and what for.

The endpoint asks Stripe for these and no others, the receivers are connected to them, and docs/access.md
shows them to staff: this table is the only place to change.
"""

EVENT_TYPES: dict[str, str] = {
    "checkout.session.completed": "A Checkout page was paid: the mirror knows, even where nobody came back from it.",
    "checkout.session.expired": "The mirror knows that a Checkout page can be paid no more.",
    "customer.deleted": "The organization falls to the default plan, and gets a new customer.",
    "customer.subscription.created": "A purchase gives the plan, also where nobody waited for the page after Checkout.",
    "customer.subscription.deleted": "The end of a subscription reaches the gate by the next call.",
    "customer.subscription.paused": "A trial that ended without a card is limited by the policy.",
    "customer.subscription.pending_update_applied": "An upgrade counts once it is paid.",
    "customer.subscription.pending_update_expired": "An upgrade that was not paid in time is shown as taken back.",
    "customer.subscription.resumed": "A paused subscription gives its plan again.",
    "customer.subscription.trial_will_end": "The customer is told three days before the first payment.",
    "customer.subscription.updated": "Renewals, changes of plan and payments that fail or arrive reach the gate.",
    "customer.updated": "Which card pays by default is shown on the billing page.",
    "invoice.created": "A renewal's draft is in the mirror before it is closed, an hour later.",
    "invoice.finalized": "The day on which a payment first failed is that of its invoice: the policy counts from it.",
    "invoice.marked_uncollectible": "An invoice was written off: Stripe takes its subscription for paid up again.",
    "invoice.paid": "What is owed is settled, and the policy's clock stops.",
    "invoice.payment_action_required": "The bank wants the customer's consent: until then the payment has failed.",
    "invoice.payment_failed": "A payment failed: what the policy says begins.",
    "invoice.updated": "When Stripe tries next, and the amount, are shown to staff and customer.",
    "invoice.voided": "An invoice was withdrawn: nothing is owed for it any more.",
    "payment_method.attached": "The billing page shows the card.",
    "payment_method.automatically_updated": "A card that the bank has renewed is shown with its new date.",
    "payment_method.detached": "A card that was removed is shown no more.",
    "payment_method.updated": "A changed card is shown as it is now.",
    "price.created": "The mirror has the prices of the catalogue.",
    "price.updated": "A price that was archived at Stripe, or whose lookup key moved, is known to be so.",
    "product.updated": "A product that was renamed or archived at Stripe is known to be so.",
    "subscription_schedule.aborted": "A downgrade agreed for later is off: want of payment ended its subscription.",
    "subscription_schedule.canceled": "A downgrade agreed for later is off, with its subscription.",
    "subscription_schedule.completed": "A schedule that has done what it was made for is shown no more.",
    "subscription_schedule.created": "The billing page shows the downgrade that is agreed for the period's end.",
    "subscription_schedule.released": "A downgrade that was taken back, or has happened, is shown no more.",
    "subscription_schedule.updated": "What is agreed for later is shown as it is now.",
}
