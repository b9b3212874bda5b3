"""What may happen to the money of a history: invoices paid and given up, credit, refunds, the balance."""

from __future__ import annotations

from typing import Any


class Money:
    """The part of a world that settles invoices; the rest of the world says whose they are."""

    api: Any
    customer: str

    def invoices(self, *statuses: str) -> list[Any]:
        raise NotImplementedError

    def pay(self, a: int, b: int, c: int) -> None:
        rows = self.invoices("open", "uncollectible")
        if rows:
            self.api.invoices.pay(rows[a % len(rows)].id)

    def void(self, a: int, b: int, c: int) -> None:
        rows = self.invoices("open", "uncollectible")
        if rows:
            self.api.invoices.void_invoice(rows[a % len(rows)].id)

    def give_up(self, a: int, b: int, c: int) -> None:
        rows = self.invoices("open")
        if rows:
            self.api.invoices.mark_uncollectible(rows[a % len(rows)].id)

    def credit(self, a: int, b: int, c: int) -> None:
        rows = [each for each in self.invoices("paid", "open") if each.total > 0]
        if not rows:
            return
        invoice = rows[-1 - a % min(len(rows), 3)]
        amount = 1 + b * 37
        params: dict[str, Any] = {"invoice": invoice.id, "amount": amount}
        if invoice.status == "paid":
            params["refund_amount" if c % 2 else "credit_amount"] = amount
        self.api.credit_notes.create(params)

    def refund(self, a: int, b: int, c: int) -> None:
        rows = self.api.charges.list({"customer": self.customer, "limit": 5}).data
        if rows:
            params: dict[str, Any] = {"charge": rows[a % len(rows)].id}
            self.api.refunds.create({**params, "amount": 1 + b * 41} if c % 2 else params)

    def adjust_balance(self, a: int, b: int, c: int) -> None:
        amount = (b + 1) * 311 * (1 if c % 4 == 3 else -1)
        self.api.customers.balance_transactions.create(self.customer, {"amount": amount, "currency": "usd"})
