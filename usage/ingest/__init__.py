"""Events that the operator's own services send: from what was sent to the ledger, each counted once, for good."""
