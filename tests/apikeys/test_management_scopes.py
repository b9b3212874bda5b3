"""The management API asks a restricted key for its scopes."""

import pytest

from apikeys.models import APIKey
from tests.billing.api import Program, problem

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [
        ("keys:read", {("GET", "keys")}),
        ("keys:write", {("POST", "keys")}),
        ("billing:read", {("GET", "subscription"), ("GET", "invoices")}),
        ("billing:write", {("POST", "subscription/undo")}),
        ("usage:read", set()),
    ],
)
def test_a_restricted_key_may_do_what_its_scope_says_and_no_more(organization, scope, allowed):
    program = Program(organization)
    _, program.secret = APIKey.objects.issue(organization=organization, name="restricted", scopes=[scope])
    calls = [
        ("GET", "keys", None),
        ("POST", "keys", {"name": "one more", "scopes": [scope]}),
        ("GET", "subscription", None),
        ("GET", "invoices", None),
        ("POST", "subscription/undo", {}),
    ]
    for method, path, body in calls:
        answer = program.call(method, path, body)
        if (method, path) in allowed:
            assert answer.status_code in {200, 201, 404}, (method, path)
        else:
            assert (answer.status_code, problem(answer)["code"]) == (403, "insufficient_scope"), (
                method,
                path,
            )
