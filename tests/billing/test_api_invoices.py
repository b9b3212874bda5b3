"""GET /invoices, and the invoices on the billing page."""

import re

import pytest
from djstripe import models as djstripe

from accounts.models import Organization
from billing.stripe.client import get_client
from billing.stripe.customers import ensure_customer
from sandbox.state import Sandbox
from tests.billing.api import Program, mirror_invoices, problem
from tests.billing.cast import subscribe

pytestmark = pytest.mark.django_db
MONTH = 31 * 86_400


@pytest.fixture
def program(organization):
    return Program(organization)


def bill_months(sandbox: Sandbox, organization: Organization, plan, *, months: int) -> list[str]:
    """Let a subscription run; return the ids of its invoices, the newest first."""
    subscribe(sandbox, organization, plan=plan)
    for _ in range(months):
        sandbox.set_clock(advance=MONTH)
    mirror_invoices()
    invoices = sorted(sandbox.every("invoice"), key=lambda i: (i["created"], i["id"]), reverse=True)
    return [invoice["id"] for invoice in invoices if invoice["status"] != "draft"]


def test_invoices_come_newest_first_page_by_page(sandbox, organization, plans, program):
    ids = bill_months(sandbox, organization, plans.pro, months=4)
    seen, cursor = [], ""
    while cursor is not None:
        page = program.get(f"invoices?limit=2&cursor={cursor}").json()
        seen += [invoice["id"] for invoice in page["data"]]
        cursor = page["next_cursor"]

    assert seen == ids
    assert len(ids) == 5


def test_invoices_of_one_second_are_each_seen_once(sandbox, organization, plans, program):
    ids = bill_months(sandbox, organization, plans.pro, months=2)
    djstripe.Invoice.objects.update(created="2026-01-01T00:00:00Z")
    first = program.get("invoices?limit=2").json()
    second = program.get(f"invoices?limit=2&cursor={first['next_cursor']}").json()

    assert sorted(i["id"] for i in first["data"] + second["data"]) == sorted(ids)


def test_an_invoice_says_what_was_paid_in_minor_units(sandbox, organization, plans, program):
    (invoice_id,) = bill_months(sandbox, organization, plans.pro, months=0)

    invoice = program.get(f"invoices/{invoice_id}").json()

    assert (invoice["status"], invoice["currency"]) == ("paid", "usd")
    assert (invoice["subtotal"], invoice["total"], invoice["amount_due"]) == (2900, 2900, 2900)
    assert (invoice["amount_paid"], invoice["amount_remaining"]) == (2900, 0)
    assert sum(line["amount"] for line in invoice["lines"]) == 2900
    assert invoice["hosted_invoice_url"].startswith("http")
    assert invoice["has_more_lines"] is False


def test_a_draft_is_not_listed(sandbox, organization, plans, program):
    (paid,) = bill_months(sandbox, organization, plans.pro, months=0)
    customer = ensure_customer(organization)
    draft = get_client().v1.invoices.create({"customer": customer.id})
    mirror_invoices()

    assert [invoice["id"] for invoice in program.get("invoices").json()["data"]] == [paid]
    assert problem(program.get(f"invoices/{draft.id}"))["code"] == "not_found"


def test_another_organization_s_invoice_is_not_found(sandbox, organization, outsider, plans):
    (theirs,) = bill_months(sandbox, organization, plans.pro, months=0)
    rival = Program(Organization.objects.get(name="Rival"))

    assert rival.get("invoices").json() == {"data": [], "next_cursor": None}
    assert problem(rival.get(f"invoices/{theirs}"))["code"] == "not_found"
    assert problem(rival.get(f"invoices?cursor={theirs}"))["errors"] == {
        "cursor": ["This is no cursor of yours."]
    }


@pytest.mark.parametrize("invoice_id", ["in_nothing", "sub_1", "%00", "in_" + "a" * 300, "in_%00"])
def test_no_invoice_at_all_is_not_found(sandbox, program, invoice_id):
    assert problem(program.get(f"invoices/{invoice_id}"))["code"] == "not_found"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=ten", "limit"),
        ("cursor=in_nothing", "cursor"),
        ("cursor=%00", "cursor"),
        ("page=2", "page"),
    ],
)
def test_a_page_that_cannot_be_is_refused_by_its_field(sandbox, program, query, field):
    refused = problem(program.get(f"invoices?{query}"))

    assert (refused["code"], list(refused["errors"])) == ("invalid", [field])


def test_without_a_key_there_is_no_invoice(client, db):
    for path in ("invoices", "invoices/in_1"):
        assert problem(client.get(f"/api/v1/{path}"))["code"] == "not_authenticated"


class TestPage:
    def numbers(self, page) -> list[str]:
        return re.findall(r'<th scope="row">([0-9A-Z]+-\d+)</th>', page.content.decode())

    def test_the_billing_page_shows_the_newest_24_and_leads_to_the_rest(
        self, sandbox, browser, organization, plans
    ):
        ids = bill_months(sandbox, organization, plans.pro, months=25)
        first = browser.get("/dashboard/billing/")
        older = re.search(r'href="(\?after=[^"#]+)#invoices">Older invoices', first.content.decode())
        second = browser.get(f"/dashboard/billing/{older[1]}")

        assert (len(self.numbers(first)), len(self.numbers(second))) == (24, len(ids) - 24)
        assert not set(self.numbers(first)) & set(self.numbers(second))
        assert "Older invoices" not in second.content.decode()
        assert "Newest invoices" in second.content.decode()

    def test_another_organization_s_invoice_is_no_place_to_begin(
        self, sandbox, client, organization, outsider, plans
    ):
        (theirs,) = bill_months(sandbox, organization, plans.pro, months=0)
        client.force_login(outsider, backend="allauth.account.auth_backends.AuthenticationBackend")

        assert client.get("/dashboard/billing/", {"after": theirs}).status_code == 404
        assert self.numbers(client.get("/dashboard/billing/")) == []
