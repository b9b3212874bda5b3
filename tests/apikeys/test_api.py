import uuid

import pytest
from django.urls import path
from redis.exceptions import ConnectionError as Unreachable
from rest_framework.response import Response
from rest_framework.views import APIView

from apikeys import cache
from config.urls import urlpatterns as real_urlpatterns
from usage.models import UsageEvent, UsageRollup

pytestmark = pytest.mark.django_db


class Broken(APIView):
    def get(self, request):
        raise RuntimeError("a bug in the operator's view")


class Unavailable(APIView):
    def get(self, request):
        return Response({"error": "upstream"}, status=502)


class Missing(APIView):
    def get(self, request, id):
        return Response({"error": "no such thing"}, status=404)


class Costly(APIView):
    gate_cost = 7

    def get(self, request):
        return Response({"organization": str(request.user.organization_id)})


class FreeOfCharge(APIView):
    gate_cost = 0

    def get(self, request):
        return Response({})


urlpatterns = [
    *real_urlpatterns,
    path("broken", Broken.as_view()),
    path("unavailable", Unavailable.as_view()),
    path("missing/<int:id>", Missing.as_view()),
    path("costly", Costly.as_view()),
    path("free", FreeOfCharge.as_view()),
]


@pytest.fixture(autouse=True)
def views_of_an_operator(settings):
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = [m for m in settings.MIDDLEWARE if "LoginRequired" not in m]


@pytest.fixture
def call(client, api_key):
    """Call the API with Acme's key, or with the Authorization header given."""
    client.raise_request_exception = False

    def call(address: str = "/api/v1/echo", *, authorization: str | None = None):
        value = f"Bearer {api_key.secret}" if authorization is None else authorization
        return client.get(address, headers={"Authorization": value} if value else {})

    return call


def problem(response) -> dict:
    assert response["Content-Type"] == "application/problem+json"
    content = response.json()
    assert content["status"] == response.status_code
    assert content["request_id"] == response["X-Request-Id"]
    assert {"type", "title", "detail", "code"} <= set(content)
    return content


def used(api_key, drain) -> int:
    while drain.run_once():
        pass
    return UsageRollup.objects.units()


def test_a_call_with_a_key_is_answered(call):
    response = call("/api/v1/echo?say=hello")

    assert response.status_code == 200
    assert response.json()["query"] == {"say": ["hello"]}


def test_the_eleventh_call_on_free_is_told_why_and_when(call):
    for _ in range(10):
        assert call().status_code == 200

    refused = call()
    content = problem(refused)

    assert (refused.status_code, content["code"], content["policy"], content["limit"]) == (
        429,
        "rate_limited",
        "minute",
        10,
    )
    assert "Free plan allows 10 requests a minute" in content["detail"]
    assert 1 <= int(refused["Retry-After"]) <= 60
    assert content["retry_after"] == int(refused["Retry-After"])


def test_a_used_up_quota_is_told_why_and_when(call, organization):
    organization.entitlement.quotas = {"requests": {"included": 2, "overage": "block"}}
    organization.entitlement.save()
    cache.drop(organization.ref)
    call()
    call()

    content = problem(call())

    assert (content["code"], content["policy"], content["used"]) == ("quota_exceeded", "period", 2)
    assert content["resets_at"].startswith(organization.entitlement.period_end.isoformat()[:19])


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer sk_live_wrong",
        "Bearer",
        "Bearer ",
        "Basic dXNlcjpwdw==",
        "sk_live_abc",
        "Bearer " + "a" * 10_000,
        "Bearer sk_live_\x00",
        "Bearer клю",
        "bearer\tx",
        "Bearer a b",
    ],
)
def test_a_garbled_key_gets_401(call, authorization):
    response = call(authorization=authorization)

    assert (response.status_code, problem(response)["code"]) == (401, "invalid_key")
    assert response["WWW-Authenticate"].startswith("Bearer")


def test_no_key_gets_401(call):
    response = call(authorization="")

    assert (response.status_code, problem(response)["code"]) == (401, "not_authenticated")
    assert response["WWW-Authenticate"].startswith("Bearer")


def test_a_revoked_key_gets_401_at_once(call, api_key):
    assert call().status_code == 200
    api_key.key.revoke()

    assert problem(call())["code"] == "invalid_key"


def test_a_refusal_does_not_repeat_the_key(call, api_key):
    wrong = api_key.secret[:-1] + ("a" if api_key.secret[-1] != "a" else "b")

    assert wrong not in call(authorization=f"Bearer {wrong}").content.decode()


def test_each_served_call_becomes_an_event_and_a_rollup(call, api_key, drain):
    for _ in range(3):
        call()

    assert used(api_key, drain) == 3
    event = UsageEvent.objects.first()
    assert (event.endpoint, event.method, event.status, event.units) == ("/api/v1/echo", "GET", 200, 1)
    assert event.api_key_id == api_key.key.pk


def test_an_event_names_the_route_and_not_what_was_asked_for(call, drain):
    call("/missing/42?secret=1")
    drain.run_once()

    assert UsageEvent.objects.get().endpoint == "/missing/<int:id>"


def test_refusals_are_no_events(call, api_key, drain):
    for _ in range(13):
        call()
    call(authorization="Bearer nonsense")

    assert used(api_key, drain) == 10


@pytest.mark.parametrize("address", ["/broken", "/unavailable"])
def test_a_call_that_the_server_failed_is_free(call, api_key, drain, address):
    assert call(address).status_code >= 500

    assert used(api_key, drain) == 0
    assert call().headers["RateLimit"].startswith('"minute";r=8;')
    assert '"period";r=99;' in call("/free").headers["RateLimit"]


def test_a_call_that_the_client_got_wrong_is_charged_and_counted_as_an_error(call, api_key, drain):
    assert call("/missing/1").status_code == 404

    assert used(api_key, drain) == 1
    assert UsageRollup.objects.get().status == 404


def test_a_view_sets_its_own_cost(call, api_key, drain):
    assert '"period";r=93;' in call("/costly").headers["RateLimit"]
    assert used(api_key, drain) == 7


def test_a_view_that_costs_nothing_is_no_event(call, api_key, drain):
    assert call("/free").status_code == 200
    assert used(api_key, drain) == 0


def test_a_view_knows_who_calls(call, organization):
    assert call("/costly").json() == {"organization": str(organization.pk)}


def test_headers_tell_where_the_client_stands(call):
    response = call()

    assert response["X-RateLimit-Limit"] == "10"
    assert response["X-RateLimit-Remaining"] == "9"
    assert response["RateLimit-Policy"].startswith('"minute";q=10;w=60, "period";q=100;w=')
    assert response["RateLimit"].startswith('"minute";r=9;t=60, "period";r=99;t=')


def test_every_answer_has_a_request_id_of_its_own(call):
    ids = {call("/free")["X-Request-Id"] for _ in range(3)}

    assert len(ids) == 3
    assert all(uuid.UUID(id_.removeprefix("req_")) for id_ in ids)


def test_the_schema_describes_the_api(client, db):
    schema = client.get("/api/schema/?format=json").json()

    assert "/api/v1/echo" in schema["paths"]
    assert schema["components"]["securitySchemes"]["APIKey"]["scheme"] == "bearer"


def test_the_health_pages_answer(client, db):
    assert client.get("/healthz").json() == client.get("/readyz").json() == {"status": "ok"}


def test_readiness_names_the_store_that_is_gone(client, db, monkeypatch):
    class Gone:
        def ping(self):
            raise Unreachable

    monkeypatch.setattr("config.health.get_redis", Gone)

    assert (client.get("/readyz").status_code, client.get("/readyz").json()["store"]) == (503, "redis")


def test_a_plan_without_a_quota_for_the_meter_is_a_problem_and_no_crash(call, organization):
    organization.entitlement.quotas = {}
    organization.entitlement.save()
    cache.drop(organization.ref)

    assert (call().status_code, problem(call())["code"]) == (403, "not_in_plan")


@pytest.mark.parametrize("address", ["/api/v1/", "/api/v1/nope"])
def test_nothing_at_an_address_of_the_api_is_a_problem(call, address):
    assert problem(call(address))["code"] == "not_found"
