"""News from this app for the app to its left."""

from django.dispatch import Signal

# Sent inside the transaction that stores events in the ledger, once for each batch, after everything else in it.
# Arguments: last_served, a mapping of API keys' ids to when the latest of the batch's calls with each was served.
events_stored = Signal()

# Sent inside the transaction that stores ingested events, after everything else in it, with the entitlements of their
# organizations locked. Arguments: units, a mapping of (organization's id, meter, period's start) to the units that
# were added, and refs, the organizations' refs by id.
units_ingested = Signal()
# Sent before an event is stored that had to be kept in memory, because neither store would take it. Argument: event.
event_delayed = Signal()
