"""News from this app to itself: models tell, the gate's cache listens."""

from django.dispatch import Signal

# Sent inside the transaction that issues or revokes a key, while the organization's entitlement row is
# locked. Arguments: organization.
keys_changed = Signal()

# Sent inside the transaction that changes a service token, while its row is locked. Arguments: token.
service_token_changed = Signal()
