"""The hosted invoice page and its PDF."""

from __future__ import annotations

from typing import TYPE_CHECKING

from werkzeug.exceptions import NotFound
from werkzeug.routing import Rule
from werkzeug.wrappers import Request, Response

from sandbox.amounts import money_text
from sandbox.pages.control import date
from sandbox.pages.pdf import write_pdf
from sandbox.store import Object

if TYPE_CHECKING:
    from sandbox.pages.site import Pages


def _find(pages: Pages, secret: str) -> Object:
    for invoice in pages.sandbox.every("invoice"):
        if invoice["_secret"] == secret and invoice["status"] != "draft":
            return invoice
    raise NotFound("There is no such invoice.")


def show(pages: Pages, request: Request, *, secret: str) -> Response:
    with pages.sandbox.lock:
        return pages.html("invoice.html", {"invoice": _find(pages, secret)})


def pdf(pages: Pages, request: Request, *, secret: str) -> Response:
    with pages.sandbox.lock:
        invoice = _find(pages, secret)
    currency = invoice["currency"]
    rows = [
        f"Invoice {invoice['number']}",
        "",
        f"Sandbox (no real money), {date(invoice['created'])}",
        f"Bill to: {invoice['customer_name'] or ''} {invoice['customer_email'] or ''}".rstrip(),
        f"Status: {invoice['status']}",
        "",
    ]
    rows += [
        f"{line['description']}    {money_text(line['amount'], currency)}"
        for line in invoice["lines"]["data"]
    ]
    rows += [
        "",
        f"Total    {money_text(invoice['total'], currency)}",
        f"Paid    {money_text(invoice['amount_paid'], currency)}",
        f"Due    {money_text(invoice['amount_remaining'], currency)}",
    ]
    name = f"Invoice-{invoice['number']}.pdf"
    return Response(
        write_pdf(rows),
        content_type="application/pdf",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


RULES = [
    Rule("/i/<secret>", methods=["GET"], endpoint=show),
    Rule("/i/<secret>/pdf", methods=["GET"], endpoint=pdf),
]
