"""News from this app for the apps to its left."""

from django.dispatch import Signal

# Sent inside the transaction that changes an entitlement, while its row is locked, so that a receiver
# can drop what it cached before anyone may read the new state. Arguments: entitlement, and before: an unsaved
# copy of it as it was.
entitlement_changed = Signal()

# Sent before an invoice is made that closes a period or a price, so that usage still on its way can be
# reported first: what arrives later is not on it. No lock is held. Arguments: organization.
invoice_closing = Signal()

# Asked before a meter is changed in what others know it by, or deleted. Arguments: meter. A receiver returns the end of
# a sentence on what of its app refers to the meter, or an empty text.
meter_references = Signal()
