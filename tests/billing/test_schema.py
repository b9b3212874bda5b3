"""The API's description of itself."""

import json
import re
from io import StringIO
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django.urls import get_resolver

from billing.api.base import ManagementView
from billing.api.problems import EXAMPLES, KINDS, OTHERS

pytestmark = pytest.mark.django_db
METHODS = {"get", "post", "put", "patch", "delete"}
PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    out = StringIO()
    call_command("spectacular", "--format", "openapi-json", stdout=out)
    return json.loads(out.getvalue())


def operations(schema: dict[str, Any]):
    return [
        (method, path, operation)
        for path, item in schema["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    ]


def test_the_schema_is_valid_and_nothing_in_it_is_guessed():
    call_command("spectacular", "--validate", "--fail-on-warn", stdout=StringIO())


def api_routes() -> list[tuple[str, Any]]:
    """Return each path of the API, as the schema has it, with its view."""
    patterns = get_resolver().url_patterns
    (api,) = [p for p in patterns if str(p.pattern) == "api/v1/"]
    included = [p for part in api.url_patterns if hasattr(part, "url_patterns") for p in part.url_patterns]
    return [(re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", f"/api/v1/{p.pattern}"), p.callback) for p in included]


def test_every_endpoint_is_in_the_schema(schema):
    routes = {path for path, _ in api_routes()}

    assert routes <= set(schema["paths"])
    assert {
        "/api/v1/subscription",
        "/api/v1/invoices/{invoice_id}",
        "/api/v1/keys/{key_id}/rotate",
    } <= routes


def test_every_operation_has_a_name_a_summary_and_its_problems(schema):
    for method, path, operation in operations(schema):
        assert operation["operationId"].isidentifier(), path
        assert operation.get("summary"), (method, path)
        problems = [r for status, r in operation["responses"].items() if status >= "400"]
        assert problems, (method, path)
        for response in problems:
            assert list(response["content"]) == [PROBLEM], (method, path)
            for example in response["content"][PROBLEM]["examples"].values():
                assert {"type", "title", "status", "detail", "code", "request_id"} <= set(example["value"])


def codes_of(operation: dict[str, Any], status: str) -> set[str]:
    content = operation["responses"].get(status, {}).get("content", {})
    return {example["value"]["code"] for each in content.values() for example in each["examples"].values()}


def test_every_operation_that_asks_for_a_scope_says_what_befalls_a_key_or_a_token_without_it(schema):
    asking = 0
    views = dict(api_routes())
    for method, path, operation in operations(schema):
        if any(getattr(views[path].cls, name, "") for name in ("read_scope", "write_scope", "service_scope")):
            assert "insufficient_scope" in codes_of(operation, "403"), (method, path)
            asking += 1
    assert asking > 20


def test_every_operation_of_the_management_api_says_what_the_gate_says_of_a_key(schema):
    views = dict(api_routes())
    for method, path, operation in operations(schema):
        if issubclass(views[path].cls, ManagementView):
            assert {"invalid_key", "expired_key"} <= codes_of(operation, "401"), (method, path)
            assert "address_not_allowed" in codes_of(operation, "403"), (method, path)


# A PUT says what is to be so, and the DELETE beside it answers the same whether or not there was anything.
REPEATABLE = {
    ("put", "/api/v1/spend-caps/{meter}"),
    ("delete", "/api/v1/spend-caps/{meter}"),
    ("post", "/api/v1/keys/verify/settle"),
    ("post", "/api/v1/events"),  # Each event is known by its source and id.
}


def test_every_write_that_cannot_be_repeated_takes_an_idempotency_key(schema):
    for method, path, operation in operations(schema):
        if path == "/api/v1/keys/verify":
            continue  # A question of a server's for each call, which posts so that the key is in no address.
        if (method, path) in REPEATABLE:
            continue
        names = {parameter["name"] for parameter in operation.get("parameters", [])}
        assert ("Idempotency-Key" in names) == (method != "get"), (method, path)


def test_a_batch_of_cloudevents_is_described_as_the_array_that_is_taken(schema):
    body = schema["paths"]["/api/v1/events"]["post"]["requestBody"]["content"]

    assert body["application/cloudevents-batch+json"]["schema"]["type"] == "array"
    assert body["application/cloudevents+json"]["schema"]["type"] == "object"


def test_no_description_speaks_of_our_code(schema):
    told = re.findall(r'"(?:description|summary)": "((?:[^"\\]|\\.)*)"', json.dumps(schema))
    packages = {config.name for config in apps.get_app_configs()}

    assert len(told) > 100
    for text in told:
        named = re.findall(r"`(\w+)\.\w", text)
        assert not packages & set(named), text
        assert "schema" not in text.lower(), text


def test_what_has_no_status_is_said_to_come_of_either_way_of_asking_the_gate(schema):
    usage = [operation for _, path, operation in operations(schema) if "/usage" in path]
    told = json.dumps(
        [usage, schema["components"]["schemas"]["SeriesGroup"], schema["components"]["schemas"]["Measures"]]
    )
    sentences = [text for text in re.findall(r'"description": "([^"]*)"', told) if "keys/verify" in text]

    assert len(sentences) >= 3
    assert all("gateway/authorize" in text for text in sentences)


def test_every_amount_says_its_unit(schema):
    amounts = 0
    for name, component in schema["components"]["schemas"].items():
        for field, described in component.get("properties", {}).items():
            if field in {"subtotal", "total", "amount"} or "amount" in field.split("_"):
                assert "minor unit" in described.get("description", ""), (name, field)
                amounts += 1
    assert amounts > 10


def test_every_error_of_billing_has_an_example():
    codes = {kind.code for kind in KINDS.values()} - {"refused"}

    assert codes == set(EXAMPLES)
    assert not set(EXAMPLES) & set(OTHERS)
