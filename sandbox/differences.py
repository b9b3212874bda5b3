"""Where the sandbox is known to differ from Stripe. Shown on the control page; the README points here."""

DIFFERENCES = (
    "It supports part of the API. A parameter that Stripe takes and the sandbox does not is refused "
    "with the code "
    "sandbox_unsupported instead of being ignored; an endpoint it lacks is a 404.",
    "Subscriptions do not renew: no second invoice, no end of trial, no dunning, no scheduled cancel "
    "when a period "
    "ends, however far the clock moves. Usage is summed but not yet invoiced.",
    "A declined card on the Checkout page leaves a failed payment intent and charge, and no "
    "incomplete subscription.",
    "3-D Secure is not simulated: a card that asks for it is refused with authentication_required.",
    "Prorations that are not invoiced at once wait for an invoice that never comes, and show nowhere.",
    "Objects are rendered in one API version; a webhook endpoint's own api_version changes nothing.",
    "Searches and meter summaries are up to date at once; at Stripe both lag.",
    "Meter events for an unknown customer or meter, or with a bad value, are taken and shown here; "
    "no thin event "
    "reports them. There is no limit on concurrent meter events of one customer, and no rate limit at all.",
    "Charges have no balance transaction, and there are no refunds, disputes, taxes, discounts or "
    "credit notes.",
    "Webhooks go to this machine only and are retried sooner than Stripe would: after 1, 5 and 30 "
    "seconds, then "
    "minutes, then hours.",
    "Any key that begins with sk_test_ or rk_test_ is let in, and a restricted key may do everything.",
)
