"""The gate in front of DRF views: who is billed for what, in every shape a view comes in."""

from types import SimpleNamespace

import pytest
from django.urls import path
from rest_framework import viewsets
from rest_framework.authentication import BaseAuthentication
from rest_framework.decorators import api_view
from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import BasePermission
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from apikeys import cache
from apikeys.drf import CannotCharge, GateAuthentication, GateThrottle, charge, gate
from apikeys.models import APIKey, UncountedUnits
from apikeys.secret import digest, new_secret
from config.urls import urlpatterns as real_urlpatterns
from usage.models import UsageEvent, UsageRollup

pytestmark = pytest.mark.django_db


class Visitor(BaseAuthentication):
    """Somebody signed in, without a key."""

    def authenticate(self, request):
        return SimpleNamespace(is_authenticated=True), None


class Never(BasePermission):
    def has_permission(self, request, view):
        return False


class Full(BaseThrottle):
    def allow_request(self, request, view):
        return False

    def wait(self):
        return 7


class Plain(APIView):
    def get(self, request):
        return Response({"live": request.auth.livemode})


class Forbidden(Plain):
    permission_classes = [Never]
    gate_cost = 5


class Crowded(Plain):
    throttle_classes = [GateThrottle, Full]
    gate_cost = 5


class Unlimited(Plain):
    """Knows who calls, and neither limits nor bills."""

    throttle_classes = []
    gate_cost = 5


class OwnThrottles(Plain):
    gate_cost = 5

    def get_throttles(self):
        return []


class OwnCheck(Plain):
    gate_cost = 60

    def check_throttles(self, request):
        """Forgets to ask the gate."""


class Page(APIView):
    authentication_classes = [GateAuthentication, Visitor]

    def get(self, request):
        charge(request, 1)
        return Response({})


class SecondThoughts(APIView):
    def get(self, request):
        raise PermissionDenied


class BySize(APIView):
    @property
    def gate_cost(self):
        return int(self.request.query_params["size"])

    def get(self, request):
        return Response({})


class Faulty(Plain):
    @property
    def gate_cost(self):
        raise AttributeError("a misspelt name in the operator's property")


class Handlers(APIView):
    gate_cost = 2

    def get(self, request):
        return Response({})

    @gate(cost=9)
    def post(self, request):
        return Response({})


class Things(viewsets.ViewSet):
    @gate(cost=3)
    def list(self, request):
        return Response([])


class Tokens(APIView):
    """Costs what `spent` says, once it is known."""

    gate_reserve = 50

    def get(self, request):
        if "spent" in request.query_params:
            charge(request, int(request.query_params["spent"]))
        status = int(request.query_params.get("status", 200))
        if "boom" in request.query_params:
            raise RuntimeError("after the charge")
        return Response({}, status=status)


@gate(cost=4)
@api_view(["GET"])
def above(request):
    return Response({})


@api_view(["GET"])
@gate(cost=6, scopes="things:read")
def below(request):
    return Response({})


urlpatterns = [
    *real_urlpatterns,
    path("plain", Plain.as_view()),
    path("forbidden", Forbidden.as_view()),
    path("crowded", Crowded.as_view()),
    path("unlimited", Unlimited.as_view()),
    path("own-throttles", OwnThrottles.as_view()),
    path("own-check", OwnCheck.as_view()),
    path("page", Page.as_view()),
    path("second-thoughts", SecondThoughts.as_view()),
    path("by-size", BySize.as_view()),
    path("faulty", Faulty.as_view()),
    path("handlers", Handlers.as_view()),
    path("things", Things.as_view({"get": "list"})),
    path("tokens", Tokens.as_view()),
    path("above", above),
    path("below", below),
]


@pytest.fixture(autouse=True)
def views_of_an_operator(settings):
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = [m for m in settings.MIDDLEWARE if "LoginRequired" not in m]


@pytest.fixture
def call(client, api_key):
    client.raise_request_exception = False

    def call(address, method="get", key=None):
        authorization = {"Authorization": f"Bearer {key or api_key.secret}"}
        return getattr(client, method)(address, headers=authorization)

    return call


@pytest.fixture
def billed(organization, redis, drain):
    """Return the units in the ledger, and those that the quota's counter holds."""

    def billed():
        while drain.run_once():
            pass
        counters = redis.hgetall(cache.names(organization.ref).used)
        counted = sum(int(units) for name, units in counters.items() if name.startswith("requests:"))
        assert UsageRollup.objects.units() == sum(UsageEvent.objects.values_list("units", flat=True))
        return UsageRollup.objects.units(), counted

    return billed


@pytest.fixture
def test_key(organization):
    """A test key of Acme's."""
    secret = new_secret(organization.ref, mode="test")
    APIKey.objects.create(
        organization=organization, name="t", prefix=secret[:20], digest=digest(secret), mode="test"
    )
    cache.drop(organization.ref)
    return secret


def test_a_view_that_says_nothing_costs_one(call, billed):
    assert call("/plain").json() == {"live": True}
    assert billed() == (1, 1)


def test_a_call_that_a_permission_refuses_costs_nothing(call, billed):
    assert call("/forbidden").status_code == 403
    assert billed() == (0, 0)


def test_what_it_costs_nothing_to_refuse_still_counts_in_the_rate(call):
    call("/forbidden")

    assert '"minute";r=8;' in call("/plain")["RateLimit"]


def test_a_permission_that_the_view_itself_asks_is_an_answer_and_costs(call, billed):
    assert call("/second-thoughts").status_code == 403
    assert billed() == (1, 1)


def test_a_call_that_another_throttle_refuses_costs_nothing(call, billed):
    response = call("/crowded")

    assert (response.status_code, response["Retry-After"]) == (429, "7")
    assert billed() == (0, 0)


@pytest.mark.parametrize("address", ["/unlimited", "/own-throttles"])
def test_a_view_without_the_throttle_knows_the_caller_and_is_free_and_uncounted(call, billed, address):
    for _ in range(12):
        assert call(address).status_code == 200

    assert billed() == (0, 0)
    assert '"minute";r=10;' in call(address)["RateLimit"]


def test_who_comes_without_a_key_has_no_limits_here_and_nothing_to_pay(client, call, billed):
    answers = [client.get("/page") for _ in range(12)]

    assert [answer.status_code for answer in answers] == [200] * 12
    assert "RateLimit" not in answers[0]
    assert call("/page").status_code == 200
    assert billed() == (1, 1)


def test_a_view_without_the_throttle_refuses_a_bad_key(call):
    assert call("/unlimited", key="nonsense").status_code == 401


def test_a_view_that_checks_throttles_itself_cannot_serve_past_the_limits(call, billed):
    assert call("/own-check").status_code == 200
    assert call("/own-check").status_code == 429
    assert billed() == (60, 60)


def test_limits_are_the_throttles_business_and_keys_the_authentications(call, organization):
    for _ in range(10):
        call("/plain")

    # The permission comes before the throttle: it can only refuse because the key was accepted.
    assert call("/forbidden").status_code == 403
    assert call("/plain").status_code == 429


def test_a_refused_call_of_a_limit_reaches_no_view_and_costs_nothing(call, billed):
    for _ in range(11):
        last = call("/plain")

    assert last.status_code == 429
    assert billed() == (10, 10)


def test_a_cost_may_depend_on_the_request(call, billed):
    call("/by-size?size=12")

    assert billed() == (12, 12)


def test_a_negative_cost_is_a_fault_of_ours_and_charges_nothing(call, billed):
    assert call("/by-size?size=-5").status_code == 500
    assert billed() == (0, 0)


def test_a_faulty_property_does_not_pass_for_the_default(call, billed):
    assert call("/faulty").status_code == 500
    assert billed() == (0, 0)


@pytest.mark.parametrize(
    ("address", "method", "cost"),
    [("/handlers", "get", 2), ("/handlers", "post", 9), ("/things", "get", 3), ("/above", "get", 4)],
)
def test_the_decorator_sets_the_cost_of_one_handler(call, billed, address, method, cost):
    assert call(address, method).status_code == 200
    assert billed() == (cost, cost)


def test_the_decorator_works_below_api_view_too(call, billed):
    assert call("/below").status_code == 200
    assert billed() == (6, 6)


def test_a_scope_that_the_key_lacks_is_named(call, billed, api_key, organization):
    APIKey.objects.filter(pk=api_key.key.pk).update(scopes=["other:read"])
    cache.drop(organization.ref)

    response = call("/below")

    assert (response.status_code, response.json()["code"]) == (403, "insufficient_scope")
    assert response.json()["scopes"] == ["things:read"]
    assert response["WWW-Authenticate"] == (
        'Bearer realm="Tollgate", error="insufficient_scope", scope="things:read"'
    )
    assert billed() == (0, 0)


@pytest.mark.parametrize(
    ("query", "status", "cost"),
    [
        ("spent=13", 200, 13),
        ("spent=50", 200, 50),
        ("spent=0", 200, 0),
        ("", 200, 50),  # It said nothing: all that was reserved.
        ("status=404", 404, 0),  # It never came to spend anything.
        ("status=404&spent=3", 404, 3),
        ("spent=13&status=503", 503, 0),
        ("spent=13&boom=1", 500, 0),
        ("spent=51", 500, 0),
        ("spent=-1", 500, 0),
    ],
)
def test_a_reservation_is_settled_by_what_the_view_charged(call, billed, query, status, cost):
    response = call(f"/tokens?{query}")

    assert response.status_code == status
    assert billed() == (cost, cost)
    assert f'"period";r={100 - cost};' in response["RateLimit"]
    assert UsageEvent.objects.count() == (1 if cost else 0)


@pytest.mark.parametrize(("query", "cost"), [("spent=13", 13), ("spent=0", 0), ("spent=13&status=503", 0)])
def test_a_reservation_is_settled_with_redis_out_of_reach_too(call, own_redis, query, cost):
    call("/plain")
    own_redis.stop()

    call(f"/tokens?{query}")

    assert sum(UsageEvent.objects.filter(endpoint="/tokens").values_list("units", flat=True)) == cost
    assert sum(UncountedUnits.objects.values_list("units", flat=True)) == cost


def test_a_reservation_that_does_not_fit_is_refused_whatever_it_would_have_cost(call, billed):
    call("/tokens?spent=50")
    call("/tokens?spent=1")

    response = call("/tokens?spent=1")

    assert (response.status_code, response.json()["code"]) == (429, "quota_exceeded")
    assert "49 are left, and this call costs 50" in response.json()["detail"]


def test_charging_more_than_was_reserved_says_what_to_do(client, api_key):
    with pytest.raises(
        CannotCharge, match=r"51 requests are more than the 50 that were reserved\. Reserve the most"
    ):
        client.get("/tokens?spent=51", headers={"Authorization": f"Bearer {api_key.secret}"})


def test_a_test_key_works_and_is_never_billed_and_the_view_can_tell(call, billed, test_key):
    assert call("/plain", key=test_key).json() == {"live": False}
    assert call("/tokens?spent=13", key=test_key).status_code == 200
    assert billed() == (0, 0)


def test_a_test_keys_own_quota_gets_back_what_was_not_spent(call, test_key):
    assert '"period";r=87;' in call("/tokens?spent=13", key=test_key)["RateLimit"]
    assert '"period";r=86;' in call("/plain", key=test_key)["RateLimit"]


def test_the_decorator_refuses_what_cannot_be_asked():
    with pytest.raises(ValueError, match="not both"):
        gate(cost=1, reserve=2)
    with pytest.raises(ValueError, match="-1 is no cost"):
        gate(cost=-1)


def test_without_a_call_of_a_key_there_is_nothing_to_charge(rf):
    charge(rf.get("/"), 5)


def test_actions_of_one_viewset_may_ask_for_different_things(organization, api_key, rf):
    class Reports(viewsets.ViewSet):
        authentication_classes = [GateAuthentication]
        throttle_classes = [GateThrottle]

        @gate(cost=2)
        def list(self, request):
            return Response({})

        @gate(cost=5)
        def retrieve(self, request):
            return Response({})

    header = {"HTTP_AUTHORIZATION": f"Bearer {api_key.secret}"}
    costs = []
    for action in ("list", "retrieve", "list"):
        request = rf.get("/", **header)
        Reports.as_view({"get": action})(request)
        costs.append(request.gate_call.decision.cost)

    assert costs == [2, 5, 2]
