"""Pages of Stripe's, opened over the API."""

import pytest

from accounts.models import Organization
from tests.billing.api import Program, problem
from tests.billing.buying import sell
from tests.billing.cards import set_up_portal
from tests.billing.cast import pay, publish_all, subscribe

pytestmark = pytest.mark.django_db

NO_PAGES = [
    "javascript:alert(1)",
    "data:text/html,hello",
    "ftp://example.com/",
    "//example.com/",
    "/dashboard/",
    "https:///nowhere",
    "https:example.com",
    "https://",
    "https://user:secret@example.com/",
    "https://example.com\\@evil.example/",
    "https://exa mple.com/",
    "https://exam\nple.com/",
    "https://example.com/\x00",
    "https://example.com:port/",
    "https://[::1/",
    "",
    "https://example.com/" + "a" * 2_000,
    7,
    None,
    ["https://example.com/"],
]
PAGES = [
    "https://example.com",
    "http://localhost:3000/done?session={CHECKOUT_SESSION_ID}#thanks",
    "https://[::1]:8000/",
    "https://xn--bcher-kva.example/",
]


@pytest.fixture
def program(organization):
    return Program(organization)


def test_a_checkout_session_is_a_page_on_which_to_pay(sandbox, organization, program, plans):
    publish_all()

    opened = program.post("checkout-sessions", {"plan": "pro"})

    (session,) = sandbox.every("checkout.session")
    assert (opened.status_code, opened.json()) == (201, {"url": session["url"]})
    assert session["success_url"].endswith("/dashboard/billing/return/?session_id={CHECKOUT_SESSION_ID}")
    assert session["cancel_url"].endswith("/dashboard/billing/")
    pay(sandbox, session["url"])
    assert [s["status"] for s in sandbox.every("subscription")] == ["active"]


def test_plan_interval_and_currency_are_what_is_sold(sandbox, program, plans):
    publish_all()
    sell(plans.pro, interval="year", currency="eur", unit_amount=27_000)

    program.post("checkout-sessions", {"plan": "pro", "interval": "year", "currency": "eur"})

    (session,) = sandbox.every("checkout.session")
    assert (session["currency"], session["amount_total"]) == ("eur", 27_000)


@pytest.mark.parametrize("page", PAGES)
def test_the_customer_goes_where_the_program_says(sandbox, program, plans, page):
    publish_all()

    opened = program.post("checkout-sessions", {"plan": "pro", "success_url": page, "cancel_url": page})

    assert opened.status_code == 201
    (session,) = sandbox.every("checkout.session")
    assert (session["success_url"], session["cancel_url"]) == (page, page)


@pytest.mark.parametrize("field", ["success_url", "cancel_url"])
@pytest.mark.parametrize("page", NO_PAGES)
def test_an_address_that_is_no_web_page_is_refused(sandbox, program, plans, field, page):
    publish_all()

    refused = problem(program.post("checkout-sessions", {"plan": "pro", field: page}))

    assert (refused["code"], list(refused["errors"])) == ("invalid", [field])
    assert list(sandbox.every("checkout.session")) == []


@pytest.mark.parametrize("page", NO_PAGES)
def test_a_portal_leads_back_to_web_pages_alone(sandbox, program, page):
    set_up_portal()

    assert list(problem(program.post("portal-sessions", {"return_url": page}))["errors"]) == ["return_url"]
    assert list(sandbox.every("billing_portal.session")) == []


def test_a_subscriber_gets_no_page_to_pay_again(sandbox, organization, program, plans):
    subscribe(sandbox, organization, plan=plans.pro)

    assert problem(program.post("checkout-sessions", {"plan": "team"}))["code"] == "already_subscribed"


def test_a_portal_session_is_a_page_for_cards_and_details(sandbox, organization, program, plans):
    set_up_portal()
    subscribe(sandbox, organization, plan=plans.pro)

    opened = program.post(
        "portal-sessions", {"flow": "payment_method_update", "return_url": "https://example.com/settings"}
    )

    (session,) = sandbox.every("billing_portal.session")
    assert (opened.status_code, opened.json()) == (201, {"url": session["url"]})
    assert session["flow"]["type"] == "payment_method_update"
    assert session["return_url"] == "https://example.com/settings"


def test_left_to_itself_the_portal_leads_back_to_the_billing_page(sandbox, program):
    set_up_portal()
    program.post("portal-sessions")

    (session,) = sandbox.every("billing_portal.session")
    assert session["return_url"].endswith("/dashboard/billing/")


@pytest.mark.parametrize("body", [{"flow": "subscription_cancel"}, {"configuration": "bpc_1"}])
def test_a_portal_of_another_kind_is_refused(sandbox, program, body):
    set_up_portal()

    assert problem(program.post("portal-sessions", body))["code"] == "invalid"


def test_a_session_is_the_callers_own(sandbox, organization, outsider, program, plans):
    publish_all()
    set_up_portal()
    rival = Program(Organization.objects.get(name="Rival"))
    for each in (program, rival):
        each.post("checkout-sessions", {"plan": "pro"})
        each.post("portal-sessions")

    for noun in ("checkout.session", "billing_portal.session"):
        assert len({session["customer"] for session in sandbox.every(noun)}) == 2
