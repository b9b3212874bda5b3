"""Usage: meter events, what counts of them, and what they add up to."""
