"""Proof that what was used is what is billed: ledger = hourly sums = reports = Stripe's count = invoice."""

from usage.proof.storing import prove, prove_all, prove_one

__all__ = ["prove", "prove_all", "prove_one"]
