"""A program that calls the API with a key of its organization's."""

import json
from typing import Any

from django.test import Client
from djstripe import models as djstripe

from accounts.models import Organization
from apikeys.models import APIKey
from billing.stripe.client import get_client


class Program:
    def __init__(self, organization: Organization) -> None:
        _, self.secret = APIKey.objects.issue(organization=organization, name="program")
        self.client = Client(raise_request_exception=False)

    def call(self, method: str, path: str, body: Any = None, *, key: str | None = None) -> Any:
        """Send a request below /api/v1/ and return the answer; `key` is its Idempotency-Key."""
        headers = {"Authorization": f"Bearer {self.secret}"} | ({"Idempotency-Key": key} if key else {})
        content = {} if body is None else {"data": json.dumps(body), "content_type": "application/json"}
        return self.client.generic(method, f"/api/v1/{path}", headers=headers, **content)

    def get(self, path: str) -> Any:
        return self.call("GET", path)

    def post(self, path: str, body: Any = None, *, key: str | None = None) -> Any:
        return self.call("POST", path, {} if body is None else body, key=key)

    def patch(self, path: str, body: Any, *, key: str | None = None) -> Any:
        return self.call("PATCH", path, body, key=key)

    def delete(self, path: str, *, key: str | None = None) -> Any:
        return self.call("DELETE", path, key=key)


def problem(response: Any) -> dict[str, Any]:
    """Return a problem's members, and check its form."""
    assert response["Content-Type"] == "application/problem+json", response.content
    content: dict[str, Any] = response.json()
    assert content["status"] == response.status_code
    assert content["request_id"] == response["X-Request-Id"]
    assert {"type", "title", "detail", "code"} <= set(content)
    return content


def mirror_invoices() -> None:
    """Copy every invoice from Stripe, as webhooks would have done one by one."""
    for invoice in get_client().v1.invoices.list({"limit": 100}).auto_paging_iter():
        djstripe.Invoice.sync_from_stripe_data(invoice)
