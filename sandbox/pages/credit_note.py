"""The PDF of a credit note."""

from __future__ import annotations

from typing import TYPE_CHECKING

from werkzeug.exceptions import NotFound
from werkzeug.routing import Rule
from werkzeug.wrappers import Request, Response

from sandbox.catalog.amounts import money_text
from sandbox.pages.control import date
from sandbox.pages.pdf import write_pdf

if TYPE_CHECKING:
    from sandbox.pages.site import Pages


def pdf(pages: Pages, request: Request, *, secret: str) -> Response:
    with pages.sandbox.lock:
        note = next((each for each in pages.sandbox.every("credit_note") if each["_secret"] == secret), None)
        if note is None:
            raise NotFound("There is no such credit note.")
        invoice = pages.sandbox.get("invoice", note["invoice"])
    currency = note["currency"]
    rows = [
        f"Credit note {note['number']}",
        "",
        f"Sandbox (no real money), {date(note['effective_at'])}",
        f"For invoice {invoice['number']}",
        f"Credit to: {invoice['customer_name'] or ''} {invoice['customer_email'] or ''}".rstrip(),
        f"Status: {note['status']}",
        "",
        *(
            f"{line['description'] or 'Credit'}    {money_text(line['amount'], currency)}"
            for line in note["_lines"]
        ),
        "",
        f"Total    {money_text(note['total'], currency)}",
    ]
    return Response(
        write_pdf(rows),
        content_type="application/pdf",
        headers={"Content-Disposition": f'attachment; filename="CreditNote-{note["number"]}.pdf"'},
    )


RULES = [Rule("/credit_notes/<secret>/pdf", methods=["GET"], endpoint=pdf)]
