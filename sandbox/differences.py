"""Where the sandbox is known to differ from Stripe, and where it had to guess. Shown on the control page and
listed in the README. What it does not support at all is in the README's list of endpoints."""

BY_TOPIC: dict[str, tuple[str, ...]] = {
    "The API": (
        "A parameter that Stripe takes and the sandbox does not is refused with the code sandbox_unsupported "
        "instead of being ignored; an endpoint it lacks is a 404.",
        "Objects are rendered in one API version; a webhook endpoint's own api_version changes nothing.",
        "Any key that begins with sk_test_ or rk_test_ is let in and may do everything, unless it was rolled or "
        "restricted here. Stripe documents the permissions of common endpoints only; those of rarer ones are guesses.",
        "There is no limit on the number of requests; order a rate_limit fault to meet one.",
        "Searches are up to date at once; at Stripe they lag.",
        "Events can be fetched for ever, not for 30 days. Times after the year 3000 are refused.",
        "The codes that /v2 gives for malformed and unknown fields are not published: those of /v1 are used.",
        "The wording of rarer refusals is the sandbox's own; type, code, status and param are Stripe's as far as "
        "they are documented.",
    ),
    "Time": (
        "A test clock has arrived by the next request; Stripe takes seconds to minutes.",
        "The sandbox's own clock can be moved by any distance and, before there is a customer, into the past.",
        "Customers are put on a test clock only when they are created.",
    ),
    "Subscriptions": (
        "Flexible billing mode only, with proration_discounts=included.",
        "A customer's first invoice fixes its currency for good; Stripe lets it change while nothing of the "
        "customer's is active.",
        "Failed renewals are tried again after 3, 5 and 7 days and then end the subscription; both can be set. "
        "Stripe's smart retries choose their own times.",
        "A metered item whose price is changed or which is removed in mid-period is billed for its usage so far at "
        "the old price, with the next invoice, and not at all with proration_behavior=none. Stripe's documents say "
        "so; it was never tried.",
        "Where the billing anchor is reset, metered usage so far is billed on the invoice of that moment.",
        "A credit after a change without proration names the current price, though its amount comes from what was "
        "billed.",
        "An item added in mid-period shows its own start as current_period_start.",
        "A graduated price has one invoice line a tier reached; a metered item with no usage has a line of 0.",
        "An invoice that cancels a subscription with invoice_now is finalized at once; one at a scheduled end an "
        "hour later.",
        "There is no invoice.upcoming, no billing threshold, no backdating together with a trial, and no anchor "
        "together with a trial.",
        "Schedules know the end behaviours release and cancel. A phase leaves out a coupon that can no longer be "
        "redeemed when it begins, and keeps a running discount of the same coupon.",
        "A cancel_at in mid-period charges that period in full and credits the rest when it comes; Stripe shortens "
        "the last invoice.",
        "Cancelling within the hour of a draft does not stop that draft; any intervals may be mixed.",
        "Deleting a customer leaves drafts as drafts and open invoices open, none collected by itself.",
        "Pending updates take neither metadata nor new invoice items.",
        "An invoice's transitions tell of themselves, without an invoice.updated beside them.",
    ),
    "Money": (
        "Discounts whose once coupon takes nothing off, as in a trial, stay for the next invoice.",
        "Negative lines are never discounted.",
        "Promotion code and coupon events are told on each redemption; a code for first purchases is refused after "
        "any finalized invoice that is not void.",
        "Automatic tax knows the standard rates of the EU and the UK and the state part for seven US states "
        "(January 2026): no reduced rates, local taxes or other countries. It tells a business by its tax id.",
        "EU, UK and Australian tax ids of the right form are verified at once; an IP address locates nobody; tax "
        "codes are a list of seven.",
        "A credit note given by amount alone has one custom line without taxes, and is voided only while its "
        "invoice is unpaid.",
        "Percentages and taxes in UGX and ISK may leave fractions that Stripe would round to hundreds.",
    ),
    "Payments": (
        "Cards are the only way to pay. Card numbers may be sent to the API directly, which Stripe allows few.",
        "A charge's balance transaction is there at once: 2.9 % + 30, available after two days. There are no "
        "payouts, disputes or reviews.",
        "A failed 3-D Secure challenge makes no charge. A partial capture gives the rest back without a refund "
        "object.",
    ),
    "Usage": (
        "Meter summaries lag by a setting, 0 seconds by default.",
        "Meter errors are gathered over ten seconds before the thin event; Stripe does not publish its window.",
        "One meter event at a time for a customer and meter is judged by the payload key stripe_customer_id; with "
        "another key by everything in the payload but the value. More at once are 429 too_many_concurrent_requests.",
        "Timestamps for a customer on a test clock are judged by that clock.",
        "/v2/billing/meter_events refuses an unknown meter and a bad value at once, as Stripe's document has it; "
        "/v1 and the stream take them and report later.",
    ),
    "Webhooks and events": (
        "They go to this machine only and are retried sooner than Stripe would: after 1, 5 and 30 seconds, then "
        "minutes, then hours. An endpoint that keeps failing is not disabled.",
        "Thin events exist for meter errors and pings; destinations are webhook endpoints, not EventBridge or "
        "Event Grid.",
        "Faults are in memory: a restart clears them.",
    ),
    "Pages": (
        "Checkout shows no wallets, Link, shipping, optional items or custom fields, and speaks English only. "
        "Without JavaScript, a total that changed is shown again before it is charged.",
        "Checkout names no customer in the payment events of a new one, as the customer is made once the payment "
        "has come.",
        "The portal edits no shipping addresses, offers no retention coupons and sends no mail.",
        "Letters outside Windows-1252 lose their accents in PDFs; other scripts and emoji are question marks there.",
    ),
}

DIFFERENCES = tuple(sentence for sentences in BY_TOPIC.values() for sentence in sentences)


def as_markdown() -> str:
    """Return the list with its topics, for the README."""
    return "\n\n".join(
        f"**{topic}**\n\n" + "\n".join(f"- {each}" for each in sentences)
        for topic, sentences in BY_TOPIC.items()
    )
