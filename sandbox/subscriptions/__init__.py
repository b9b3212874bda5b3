"""The life of a subscription: its start, its changes, its renewals and its end."""
