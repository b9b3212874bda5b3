"""Steps that several tests of billing share: what a person does on Stripe's pages, and Stripe's webhooks."""

from typing import Any
from urllib.parse import urlsplit

from django.test import Client
from djstripe import models as djstripe
from werkzeug.test import Client as SandboxBrowser

from accounts.models import Organization
from billing.models import Plan
from billing.stripe.checkout import complete_checkout, start_checkout
from sandbox.app import create_app
from sandbox.events.webhooks import Delivery
from sandbox.state import Sandbox
from tests.billing.shelf import publish_plans

ATTEMPT = "00000000-0000-4000-8000-000000000001"
CARD = "4242424242424242"
DECLINED = "4000000000000002"


def publish_all() -> None:
    publish_plans(Plan.objects.all())


def open_checkout(organization: Organization, *, plan: Plan, attempt: str = ATTEMPT, **offer: str) -> str:
    """Return the address of a Checkout page."""
    return start_checkout(
        organization,
        plan=plan,
        attempt=attempt,
        **offer,
        success_url="http://127.0.0.1:8000/dashboard/billing/return/?session_id={CHECKOUT_SESSION_ID}",
        cancel_url="http://127.0.0.1:8000/dashboard/billing/",
    )


def pay(sandbox: Sandbox, url: str, *, card: str = CARD, **fields: str) -> Any:
    """Fill in and send Stripe's hosted page; return its answer. `fields` are further ones of the form."""
    form = {"number": card, "expiry": "12 / 34", "cvc": "123", "name": "Ann Owner", **fields}
    return visit_page(sandbox, url, form)


def visit_page(sandbox: Sandbox, url: str, form: dict[str, str]) -> Any:
    """Send a form to one of Stripe's hosted pages; return its answer."""
    return SandboxBrowser(create_app(sandbox)).post(urlsplit(url).path, data=form)


def session_id_of(response: Any) -> str:
    return str(response.headers["Location"]).split("session_id=")[1]


def subscribe(sandbox: Sandbox, organization: Organization, *, plan: Plan) -> djstripe.Subscription:
    """Take the organization through Checkout to a paid plan, with no webhook delivered."""
    publish_all()
    paid = pay(sandbox, open_checkout(organization, plan=plan))
    assert complete_checkout(organization, session_id=session_id_of(paid))
    return djstripe.Subscription.objects.get(customer__subscriber=organization)


def deliver(sandbox: Sandbox, deliveries: list[Delivery] | None = None) -> list[int]:
    """Post webhooks to our endpoint, as Stripe would; return the answers' statuses."""
    client = Client(raise_request_exception=False)

    def post(url: str, body: bytes, headers: dict[str, str]) -> int:
        content_type = headers.get("Content-Type", "application/json")
        others = {name: value for name, value in headers.items() if name.lower() != "content-type"}
        return client.post(urlsplit(url).path, body, content_type=content_type, headers=others).status_code

    return sandbox.webhooks.deliver(post, deliveries)
