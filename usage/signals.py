"""News from this app for the app to its left."""

from django.dispatch import Signal

# Sent inside the transaction that stores events in the ledger, once for each batch, after everything else in it.
# Arguments: last_served, a mapping of API keys' ids to when the latest of the batch's calls with each was served.
events_stored = Signal()

# Sent before an event is stored that had to be kept in memory, because neither store would take it. Argument: event.
event_delayed = Signal()
