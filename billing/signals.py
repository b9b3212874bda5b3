"""News from this app for the apps to its left."""

from django.dispatch import Signal

# Sent inside the transaction that changes an entitlement, while its row is locked, so that a receiver
# can drop what it cached before anyone may read the new state. Arguments: entitlement, and before: an unsaved
# copy of it as it was.
entitlement_changed = Signal()

# Sent for each organization that is to be repaired, once it was compared with Stripe: what this app knows nothing
# of is mended by who does. No lock is held. Arguments: organization. A receiver returns what it did, as an Outcome of
# `billing.stripe.copying`.
repairing = Signal()

# Sent before an invoice is made that closes a period or a price, so that usage still on its way can be
# reported first: what arrives later is not on it. No lock is held. Arguments: organization.
invoice_closing = Signal()

# Sent where Stripe has drafted a renewal's invoice, which it closes about an hour later: usage that it has until then
# is on it. In the transaction that the webhook is processed in. Arguments: organization.
invoice_drafted = Signal()

# Sent inside the transaction that stores what a meter error is about: usage that Stripe took and does not count.
# Arguments: event, the ThinEvent; samples, a list of MeterErrorSample, which names some of it and not always all.
meter_events_rejected = Signal()


# Asked before a meter is changed in what others know it by, or deleted. Arguments: meter. A receiver returns the end of
# a sentence on what of its app refers to the meter, or an empty text.
meter_references = Signal()
