"""News from this app for the apps to its left."""

from django.dispatch import Signal

# Sent inside the transaction that changes an entitlement, while its row is locked, so that a receiver
# can drop what it cached before anyone may read the new state. Arguments: entitlement.
entitlement_changed = Signal()
