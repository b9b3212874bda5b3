"""News from this app for the apps to its left."""

from django.dispatch import Signal

# Sent inside the transaction that creates an organization. Arguments: organization.
organization_created = Signal()
