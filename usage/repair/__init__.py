"""Mend what differs between what was used and what is billed, without billing anything twice."""

from usage.repair.running import Repair, repair

__all__ = ["Repair", "repair"]
