"""The hosted invoice page, where an open invoice is paid, and its PDF."""

from __future__ import annotations

from typing import TYPE_CHECKING

from werkzeug.exceptions import NotFound
from werkzeug.routing import Rule
from werkzeug.utils import redirect
from werkzeug.wrappers import Request, Response

from sandbox.catalog.amounts import money_text
from sandbox.invoices.invoice_shape import subscription_of
from sandbox.pages.forms import Form
from sandbox.pages.invoice_view import STATUS, billed_to, facts_of, lines_of, totals_of
from sandbox.pages.pdf import LEFT, RIGHT, Document, wrapped
from sandbox.payments.authenticating import authentication_url
from sandbox.payments.methods import new_card
from sandbox.payments.paying import confirm
from sandbox.selling.checkout import NOT_AUTHENTICATED
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.subscriptions.subscribing import paying_method
from sandbox.timeline import clock_of

if TYPE_CHECKING:
    from sandbox.pages.site import Pages

PAYABLE = ("open", "uncollectible")


def _find(state: Sandbox, secret: str) -> Object:
    for invoice in state.every("invoice"):
        if invoice["_secret"] == secret and invoice["status"] != "draft" and not invoice.get("deleted"):
            return state.get("invoice", invoice["id"])
    raise NotFound("There is no such invoice.")


def show(pages: Pages, request: Request, *, secret: str) -> Response:
    with pages.sandbox.change() as state:
        invoice = _find(state, secret)
        with state.on_clock(clock_of(state, invoice)):
            form = Form({})
            intent = state.find("payment_intent", invoice["_intent"] or "")
            # Whoever comes back from the bank unpaid is told why.
            if request.args.get("redirect_status") == "failed" and invoice["status"] in PAYABLE and intent:
                error = intent["last_payment_error"] or {}
                declined = error.get("type") == "card_error"
                form.alert = str(error["message"]) if declined else NOT_AUTHENTICATED
            return _page(pages, invoice, form, status=402 if form.alert else 200)


def pay(pages: Pages, request: Request, *, secret: str) -> Response:
    """Pay with the saved card or a new one, or show the page again with what went wrong.

    A second press finds the invoice paid and shows it so.
    """
    with pages.sandbox.change() as state:
        invoice = _find(state, secret)
        with state.on_clock(clock_of(state, invoice)):
            intent = state.find("payment_intent", invoice["_intent"] or "")
            if invoice["status"] not in PAYABLE or intent is None:
                return redirect(_url(invoice), code=303)
            form = Form.of(request.form)
            saved = _saved(state, invoice)
            method = saved if saved is not None and form.get("saved") == saved["id"] else None
            if method is None:
                form.read_card(state)
                if form.card is None:
                    return _page(pages, invoice, form, status=422)
                method = new_card(
                    state,
                    form.card["number"],
                    exp_month=form.card["exp_month"],
                    exp_year=form.card["exp_year"],
                    details={"email": invoice["customer_email"], "name": form.get("name")},
                )
            decline = confirm(state, intent, method)
            if decline is not None:
                form.alert = decline.message
                return _page(pages, state.get("invoice", invoice["id"]), form, status=402)
            if intent["status"] == "requires_action":
                return redirect(authentication_url(state, intent, return_to=_url(invoice)), code=303)
            if pages.recorder is not None:
                paid = state.get("invoice", invoice["id"])
                pages.recorder.check_object(state.render(paid), where="invoice page")
            return redirect(_url(invoice), code=303)


def _url(invoice: Object) -> str:
    return str(invoice["hosted_invoice_url"])


def _saved(state: Sandbox, invoice: Object) -> Object | None:
    """Return the card the invoice would be charged to by itself, if there is one."""
    subscription = state.find("subscription", subscription_of(invoice) or "")
    customer = state.get("customer", invoice["customer"])
    return paying_method(state, subscription, customer=customer, invoice=invoice)


def _page(pages: Pages, invoice: Object, form: Form, *, status: int = 200) -> Response:
    state = pages.sandbox
    payable = invoice["status"] in PAYABLE and invoice["_intent"] is not None
    saved = _saved(state, invoice) if payable else None
    if saved is not None and not form.values:
        form.values["saved"] = saved["id"]
    context = {
        "invoice": invoice,
        "status": STATUS[invoice["status"]],
        "facts": facts_of(state, invoice),
        "billed_to": billed_to(invoice),
        "lines": lines_of(invoice),
        "totals": totals_of(state, invoice),
        "payable": payable,
        "saved": saved,
        "form": form,
    }
    return pages.html("invoice.html", context, status=status)


def pdf(pages: Pages, request: Request, *, secret: str) -> Response:
    with pages.sandbox.lock:
        invoice = _find(pages.sandbox, secret)
        content = write_invoice(pages.sandbox, invoice)
    name = f"Invoice-{invoice['number']}.pdf"
    return Response(
        content,
        content_type="application/pdf",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def write_invoice(state: Sandbox, invoice: Object) -> bytes:
    """Return an invoice as a PDF that says what its page says."""
    document = Document()
    document.text("Invoice", size=20, bold=True)
    document.text(STATUS[invoice["status"]], x=RIGHT, size=12, end=True)
    document.down(26)
    for label, value in facts_of(state, invoice):
        document.text(label)
        document.text(value, x=LEFT + 120)
        document.down(15)
    document.down(12)
    document.text(str(invoice["account_name"]), bold=True)
    document.text("Bill to", x=LEFT + 260, bold=True)
    document.down(15)
    document.text("Sandbox: no real money")
    for each in billed_to(invoice):
        document.paragraph(each, x=LEFT + 260, within=RIGHT - LEFT - 260)
    document.down(16)
    due = money_text(invoice["amount_remaining"], invoice["currency"])
    paid = invoice["status"] == "paid"
    head = money_text(invoice["amount_paid"], invoice["currency"]) + " paid" if paid else f"{due} due"
    document.text(head, size=14, bold=True)
    document.down(28)
    document.text("Description", size=9)
    document.text("Qty", x=LEFT + 350, size=9, end=True)
    document.text("Amount", x=RIGHT, size=9, end=True)
    document.down(8)
    document.rule()
    document.down(16)
    for line in lines_of(invoice):
        first, *more = wrapped(line["text"], within=300, size=10)
        document.text(first)
        if line["quantity"] is not None:
            document.text(f"{line['quantity']:,}", x=LEFT + 350, end=True)
        document.text(line["amount"], x=RIGHT, end=True)
        for each in more:
            document.down(14)
            document.text(each)
        document.down(13)
        document.text(line["period"], size=8)
        document.down(19)
    document.rule()
    document.down(18)
    for total in totals_of(state, invoice):
        document.text(total.label, x=LEFT + 260, bold=total.strong)
        document.text(total.amount, x=RIGHT, end=True)
        document.down(16)
    for text in (invoice["description"], invoice["footer"]):
        if text:
            document.down(14)
            document.paragraph(text)
    return document.finish()


RULES = [
    Rule("/i/<secret>", methods=["GET"], endpoint=show),
    Rule("/i/<secret>", methods=["POST"], endpoint=pay),
    Rule("/i/<secret>/pdf", methods=["GET"], endpoint=pdf),
]
