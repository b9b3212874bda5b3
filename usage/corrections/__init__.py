"""What came too late for its invoice goes on the next one, and what was billed twice comes off it."""

from usage.corrections.making import CannotCorrect, Proposal, make, propose
from usage.corrections.sending import send, send_due, try_again

__all__ = ["CannotCorrect", "Proposal", "make", "propose", "send", "send_due", "try_again"]
