"""The main job, end to end: a person signs up, pays, gets a key and calls the API, and Stripe counts the calls."""

import json
import re
import time
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from playwright.sync_api import Page, expect

from sandbox.events.webhooks import sign
from tests.flows.stack import Answer, Stack, request, wait_for

pytestmark = pytest.mark.long


def sign_up(page: Page, stack: Stack, *, then: str) -> str:
    """Sign up as somebody new, by way of the plans; return the address used."""
    email = f"{uuid4().hex[:8]}@acme.example"
    page.goto("/pricing/")
    page.get_by_role("link", name=re.compile(then)).first.click()
    page.get_by_label("Company or project").fill("Acme")
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password").fill("correct horse battery")
    page.get_by_role("button", name=re.compile("sign up|create", re.IGNORECASE)).click()
    mail = wait_for(lambda: stack.find_mail(email), seconds=60, what="The verification e-mail")
    code = re.search(r"^\s*([A-Z0-9]{3,}-?[A-Z0-9]{3,})\s*$", mail, re.MULTILINE)
    assert code, mail
    page.get_by_label(re.compile("code", re.IGNORECASE)).fill(code[1])
    page.get_by_role("button", name=re.compile("confirm|verify|continue", re.IGNORECASE)).click()
    expect(page).to_have_url(re.compile("/dashboard/"))
    return email


def choose(page: Page, plan: str) -> None:
    page.goto("/dashboard/billing/")
    page.get_by_role("button", name=re.compile(plan)).click()
    expect(page).to_have_url(re.compile("/c/pay/"))


def pay(page: Page, *, card: str) -> None:
    page.get_by_label("Card number").fill(card)
    page.get_by_label(re.compile("expir", re.IGNORECASE)).fill("12 / 34")
    page.get_by_label(re.compile("cvc|security", re.IGNORECASE)).fill("123")
    page.get_by_label(re.compile("name", re.IGNORECASE)).fill("Ann Owner")
    page.get_by_role("button", name=re.compile("subscribe|pay", re.IGNORECASE)).click()


def create_key(page: Page, *, name: str) -> str:
    page.goto("/dashboard/keys/")
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Create key").click()
    return page.locator("#new-key").inner_text()


def delivered(stack: Stack, event_id: str) -> int:
    """Return how many times a webhook of this event was answered with 200."""
    triggers = "SELECT count(*) FROM djstripe_webhookeventtrigger WHERE event_id = %s AND processed"
    return int(stack.row(triggers, event_id)[0])


def left_by(stack: Stack, event_id: str, *, organization: object, customer: str) -> tuple[object, ...]:
    """Return what one webhook has left: of this event and this customer alone, others come in at any time."""
    subscriptions = "SELECT count(*) FROM djstripe_subscription WHERE stripe_data->>'customer' = %s"
    return (
        stack.row("SELECT count(*) FROM djstripe_event WHERE id = %s", event_id),
        stack.row(subscriptions, customer),
        stack.row("SELECT version, status FROM billing_entitlement WHERE organization_id = %s", organization),
    )


def problem(answer: Answer) -> dict[str, object]:
    assert answer.headers["Content-Type"] == "application/problem+json"
    content: dict[str, object] = answer.json()
    return content


def test_from_sign_up_to_a_call_that_stripe_has_counted(page: Page, stack: Stack) -> None:
    email = sign_up(page, stack, then="Pro")
    choose(page, "Pro")
    pay(page, card="4242 4242 4242 4242")

    # Back on a dashboard that says Pro already.
    expect(page).to_have_url(f"{stack.origin}/dashboard/")
    expect(page.locator("#plan-name")).to_have_text("Pro")

    key = create_key(page, name="production")
    assert re.fullmatch(r"sk_live_[0-9A-Za-z]{48}", key)
    page.goto("/dashboard/keys/")
    assert key not in page.content()

    # A hundred calls a minute and not one more.
    began = time.monotonic()
    answers = [stack.api("/api/v1/echo", key) for _ in range(101)]
    assert time.monotonic() - began < 60, "The machine is too slow to make 101 calls in a minute."
    assert [a.status for a in answers] == [200] * 100 + [429]
    refused = problem(answers[-1])
    assert (refused["code"], refused["limit"]) == ("rate_limited", 100)
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 60

    # The ledger, the rollup, Stripe's summary and the dashboard show the same number, within a minute.
    organization = stack.row("SELECT id, ref FROM accounts_organization WHERE email = %s", email)[0]
    customer = stack.row("SELECT id FROM djstripe_customer WHERE subscriber_id = %s", organization)[0]
    meter = stack.row("SELECT stripe_meter_id FROM billing_meter WHERE slug = 'requests'")[0]
    now = int(time.time()) // 60 * 60
    window = urlencode({"customer": customer, "start_time": now - 86_400, "end_time": now + 3_600})

    def counted_by_stripe() -> bool:
        summaries = stack.stripe(f"/v1/billing/meters/{meter}/event_summaries?{window}")["data"]
        return sum(s["aggregated_value"] for s in summaries) == 100

    wait_for(counted_by_stripe, seconds=60, what="Stripe counts the 100 calls")
    in_ledger = "SELECT count(*), sum(units) FROM usage_event WHERE organization_id = %s"
    in_rollups = "SELECT sum(calls), sum(units) FROM usage_rollup WHERE organization_id = %s"
    assert stack.row(in_ledger, organization) == stack.row(in_rollups, organization) == (100, 100)
    page.goto("/dashboard/")
    expect(page.locator("#used-units")).to_have_text("100")
    expect(page.locator("#included-units")).to_have_text("10,000")

    # A webhook that comes twice changes nothing twice.
    (event,) = [
        event
        for event in stack.stripe("/v1/events?type=customer.subscription.created&limit=100")["data"]
        if event["data"]["object"]["customer"] == customer
    ]
    before = left_by(stack, event["id"], organization=organization, customer=customer)
    assert before[:2] == ((1,), (1,))
    request(f"{stack.sandbox}/sandbox/events/{event['id']}/resend", method="POST", body=b"")
    wait_for(lambda: delivered(stack, event["id"]) == 2, seconds=60, what="The webhook comes again")
    assert left_by(stack, event["id"], organization=organization, customer=customer) == before

    # A cancelled subscription drops the organization to Free at its next call.
    subscription = stack.stripe(f"/v1/subscriptions?customer={customer}")["data"][0]["id"]
    stack.stripe(f"/v1/subscriptions/{subscription}", method="DELETE")
    wait_for(
        lambda: stack.api("/api/v1/echo", key).headers["X-RateLimit-Limit"] == "10",
        seconds=20,
        what="The webhook of the cancellation takes effect",
    )
    page.goto("/dashboard/")
    expect(page.locator("#plan-name")).to_have_text("Free")

    # A revoked key is refused at the next call.
    page.goto("/dashboard/keys/")
    page.get_by_text("Revoke", exact=False).first.click()
    page.get_by_role("button", name=re.compile("Revoke key")).click()
    expect(page.get_by_text("is revoked")).to_be_visible()
    assert problem(stack.api("/api/v1/echo", key))["code"] == "invalid_key"


def test_a_declined_card_leaves_the_customer_on_free(page: Page, stack: Stack) -> None:
    sign_up(page, stack, then="Pro")
    choose(page, "Pro")
    pay(page, card="4000 0000 0000 0002")

    expect(page.get_by_role("alert")).to_contain_text("declined")
    page.goto("/dashboard/")
    expect(page.locator("#plan-name")).to_have_text("Free")

    # Free is ten calls a minute.
    key = create_key(page, name="trial")
    answers = [stack.api("/api/v1/echo", key) for _ in range(11)]
    assert [a.status for a in answers] == [200] * 10 + [429]
    assert problem(answers[-1])["limit"] == 10


def test_a_customer_changes_plan_and_leaves_without_javascript(plain_page: Page, stack: Stack) -> None:
    page = plain_page
    sign_up(page, stack, then="Pro")
    choose(page, "Pro")
    pay(page, card="4242 4242 4242 4242")
    expect(page.locator("#plan-name")).to_have_text("Pro")

    # Up: shown to the cent, then paid.
    page.goto("/dashboard/billing/")
    page.get_by_role("link", name="Upgrade to Team").click()
    expect(page.get_by_role("row", name="Due now")).to_contain_text("$70")
    page.get_by_role("button", name="Pay $70 and change").click()
    expect(page.get_by_role("status")).to_contain_text("You are on Team now.")

    # Down: for later, and taken back.
    page.get_by_role("link", name="Downgrade to Pro").click()
    page.get_by_role("button", name=re.compile("Change on")).click()
    expect(page.get_by_role("status")).to_contain_text("Until then you keep Team")
    page.get_by_role("button", name="Keep Team").click()
    expect(page.get_by_role("status")).to_contain_text("You keep Team.")

    # Away: at the end of what is paid for, back again, and now.
    page.get_by_role("link", name="Cancel the subscription").click()
    page.get_by_role("button", name="Cancel the subscription").click()
    expect(page.get_by_role("status")).to_contain_text("You keep Team until then.")
    page.get_by_role("button", name="Resume Team").click()
    expect(page.get_by_role("status")).to_contain_text("Your subscription goes on.")
    page.get_by_role("link", name="Cancel the subscription").click()
    page.get_by_label("Now").press("Space")
    page.get_by_role("button", name="Cancel the subscription").click()
    expect(page.get_by_role("status")).to_contain_text("You are on Free now.")


def test_staff_make_and_publish_a_plan_in_the_back_office_and_a_customer_pays_for_it(
    page: Page, stack: Stack
) -> None:
    logins = json.loads((stack.var / "demo.json").read_text())
    page.goto("/admin/")
    page.get_by_label(re.compile("e-mail", re.IGNORECASE)).fill(logins["staff_email"])
    page.get_by_label(re.compile("password", re.IGNORECASE)).first.fill(logins["staff_password"])
    page.get_by_role("button", name=re.compile("log in", re.IGNORECASE)).click()
    expect(page).to_have_url(re.compile("/admin/$"))

    # A limit of 0 is refused with a sentence; then a plan by the month that bills what goes beyond.
    page.goto("/admin/billing/plan/add/")
    for name, value in {
        "name": "Scale",
        "slug": "scale",
        "rate_per_minute": "0",
        "order": "9",
        "quotas-0-included": "5000",
        "fees-0-unit_amount": "4900",
        "overages-0-tiers": "beyond: 0.5",
    }.items():
        page.locator(f"[name='{name}']").fill(value)
    page.locator("[name='quotas-0-overage']").select_option("bill")
    for name in ("quotas-0-meter", "overages-0-meter"):
        page.locator(f"[name='{name}']").select_option(label="Requests")
    save = page.get_by_role("button", name="Save and continue editing")
    save.click()
    expect(page.get_by_text("0 would let nobody in")).to_be_visible()
    page.locator("[name='rate_per_minute']").fill("250")
    save.click()

    # What publishing would do is shown first, then done, and then there is nothing left to do.
    page.get_by_role("link", name="Publish…").click()
    expect(page.get_by_role("listitem").filter(has_text="$49 a month")).to_be_visible()
    page.get_by_role("button", name="Publish").click()
    expect(page.get_by_text(re.compile("Published: ")).first).to_be_visible()
    page.get_by_role("link", name="Publish…").click()
    expect(page.get_by_text("there is nothing to publish")).to_be_visible()
    page.context.clear_cookies()

    email = sign_up(page, stack, then="Scale")
    choose(page, "Scale")
    pay(page, card="4242 4242 4242 4242")
    expect(page.locator("#plan-name")).to_have_text("Scale")
    key = create_key(page, name="production")
    assert stack.api("/api/v1/echo", key).headers["X-RateLimit-Limit"] == "250"
    customer = stack.row("SELECT id FROM djstripe_customer WHERE stripe_data->>'email' = %s", email)[0]
    (invoice,) = stack.stripe(f"/v1/invoices?customer={customer}")["data"]
    assert (invoice["status"], invoice["amount_paid"]) == ("paid", 4900)


@pytest.mark.parametrize("key", ["sk_live_wrong", "sk_live_" + "a" * 48, "💳", "-"])
def test_a_wrong_key_gets_401(stack: Stack, key: str) -> None:
    answer = stack.api("/api/v1/echo", key.encode().decode("latin-1"))

    assert (answer.status, problem(answer)["code"]) == (401, "invalid_key")


def test_no_key_gets_401(stack: Stack) -> None:
    answer = stack.api("/api/v1/echo")

    assert (answer.status, problem(answer)["code"]) == (401, "not_authenticated")


def test_a_forged_webhook_gets_400_and_the_same_signed_by_stripe_200(stack: Stack) -> None:
    uuid, secret = stack.row("SELECT djstripe_uuid, secret FROM djstripe_webhookendpoint")
    (event,) = stack.stripe("/v1/events?limit=1")["data"]
    event_id = f"evt_{uuid4().hex}"
    body = json.dumps(event | {"id": event_id}).encode()

    def post(secret: str) -> int:
        headers = {
            "Stripe-Signature": sign(body, secret=secret, at=int(time.time())),
            "Content-Type": "application/json",
        }
        return request(
            f"{stack.origin}/stripe/webhook/{uuid}/", method="POST", body=body, headers=headers
        ).status

    kept = "SELECT count(*) FROM djstripe_event WHERE id = %s"
    assert post("whsec_guessed") == 400
    assert stack.row(kept, event_id) == (0,)
    assert post(secret) == 200
    assert stack.row(kept, event_id) == (1,)


def test_the_printed_curl_line_works(stack: Stack) -> None:
    line = re.search(r'curl -H "Authorization: Bearer (\S+)" (\S+)', stack.log.read_text())
    assert line

    answer = request(line[2], headers={"Authorization": f"Bearer {line[1]}"})

    assert answer.status == 200


def test_staff_sign_in_to_the_back_office(page: Page, stack: Stack) -> None:
    login = re.search(r"Staff\s+(\S+)\s+(\S+)", stack.log.read_text())
    assert login
    page.goto("/admin/")
    page.get_by_label(re.compile("e-mail|email|username", re.IGNORECASE)).fill(login[1])
    page.get_by_label(re.compile("password", re.IGNORECASE)).first.fill(login[2])
    page.get_by_role("button", name=re.compile("log in|sign in", re.IGNORECASE)).click()

    for name in ("Organizations", "Plans", "API keys", "Entitlements", "Rollups", "Meter reports"):
        page.goto("/admin/")
        page.get_by_role("link", name=name).first.click()
        expect(page.get_by_role("heading").first).to_be_visible()
        assert "/admin/" in page.url
