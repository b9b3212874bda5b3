"""The examples of docs/gateway.md, run as they stand there."""

import json
import re
from pathlib import Path

import pytest
from django.urls import path
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apikeys.drf import charge, gate
from config.urls import urlpatterns as real_urlpatterns
from tests.apikeys.cast import include_tokens, ledger, restrict, service_token

pytestmark = pytest.mark.django_db

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "gateway.md").read_text()
NAMES = {
    "__name__": __name__,
    "APIView": APIView,
    "Request": Request,
    "Response": Response,
    "api_view": api_view,
    "charge": charge,
    "gate": gate,
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def example(number: int) -> dict:
    names = dict(NAMES)
    exec(blocks("python")[number], names)  # noqa: S102  # Our own page.
    return names


urlpatterns = [
    *real_urlpatterns,
    path("report", example(0)["Report"].as_view()),
    path("complete", example(1)["complete"]),
]


@pytest.fixture(autouse=True)
def views_of_the_page(settings):
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = [m for m in settings.MIDDLEWARE if "LoginRequired" not in m]


@pytest.fixture
def headers(api_key):
    return {"Authorization": f"Bearer {api_key.secret}"}


def test_the_example_is_five_lines():
    assert len([line for line in blocks("python")[0].splitlines() if line.strip()]) <= 5


def test_the_view_of_the_page_is_gated_and_metered(client, headers, drain, api_key):
    assert client.get("/report").status_code == 401
    assert client.get("/report", headers=headers).json() == {"for": "Acme", "is_test": False}
    restrict(api_key, scopes=["other"])
    assert client.get("/report", headers=headers).status_code == 403
    assert [(event.endpoint, event.units) for event in ledger(drain)] == [("/report", 5)]


def test_the_function_of_the_page_is_charged_by_what_it_did(client, headers, drain, organization):
    include_tokens(organization, included=5000)

    response = client.post("/complete", headers=headers)

    assert response.json() == {"text": "words and more words"}
    assert [(event.meter, event.units) for event in ledger(drain)] == [("tokens", 4)]
    assert '"period";r=4996;' in response["RateLimit"]


def test_the_settings_of_the_page_are_the_projects(settings):
    for name in ("DEFAULT_AUTHENTICATION_CLASSES", "DEFAULT_THROTTLE_CLASSES"):
        documented = json.loads(re.search(rf"`{name} = (\[.*?\])`", PAGE)[1])
        assert documented == settings.REST_FRAMEWORK[name]


def test_the_call_of_the_page_verifies_a_key(client, api_key, organization):
    include_tokens(organization)
    command = blocks("sh")[0]
    body = json.loads(re.search(r"--json '(.*)'", command)[1]) | {"key": api_key.secret}

    response = client.post(
        re.search(r"example\.com(/\S+)", command)[1],
        body,
        content_type="application/json",
        headers={"Authorization": f"Bearer {service_token()}"},
    )

    assert response.json()["valid"]
    assert response.json().keys() == json.loads(blocks("json")[0]).keys()


def test_the_calls_of_the_page_reserve_and_settle(client, api_key, organization, drain):
    include_tokens(organization, included=5000)
    headers = {"Authorization": f"Bearer {service_token()}"}

    def run(command, **fields):
        address = re.search(r"example\.com(/\S+)", command)[1]
        body = json.loads(re.search(r"--json '(.*)'", command)[1]) | fields
        return client.post(address, body, content_type="application/json", headers=headers).json()

    reserved = run(blocks("sh")[1], key=api_key.secret)
    settled = run(blocks("sh")[2], reservation=reserved["reservation"])

    assert settled == json.loads(blocks("json")[1]) | {"organization": organization.ref}
    (event,) = ledger(drain)
    assert (event.units, event.status, event.endpoint, event.response_ms) == (312, 200, "/v1/chat", 840)
