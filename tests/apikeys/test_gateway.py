"""gateway/authorize: what a proxy asks and is told."""

import json
from datetime import timedelta

import pytest

from accounts import clock
from apikeys.models import ServiceToken
from tests.apikeys.cast import include_tokens, ledger, restrict, service_token
from usage.models import UsageEvent, UsageRollup

pytestmark = pytest.mark.django_db

AUTHORIZE = "/api/v1/gateway/authorize"


@pytest.fixture
def ask(client, api_key):
    """Ask as a proxy does, with Acme's key as the caller's."""
    token = service_token(ServiceToken.Scope.AUTHORIZE)

    def ask(address=AUTHORIZE, *, method="get", **headers):
        given = {"Authorization": f"Bearer {api_key.secret}", "X-Tollgate-Token": token}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        given = {name: value for name, value in given.items() if value is not None}
        return client.generic(method.upper(), address, headers=given)

    return ask


def code(response) -> str:
    assert response["Content-Type"] == "application/problem+json"
    return response.json()["code"]


def test_a_good_key_is_let_in_and_said_whose_it_is(ask, organization, api_key):
    response = ask()

    assert (response.status_code, response.content) == (200, b"")
    assert response["X-Tollgate-Organization"] == organization.ref
    assert response["X-Tollgate-Key"] == str(api_key.key.pk)
    assert response["X-Tollgate-Mode"] == "live"
    assert response["RateLimit"].startswith('"minute";r=9;t=60, "period";r=99;')
    assert response["Cache-Control"] == "no-store"


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete", "options", "trace", "propfind"])
def test_any_method_will_do(ask, drain, method):
    assert ask(method=method).status_code == 200
    assert [event.units for event in ledger(drain)] == [1]


def test_a_head_will_do(ask):
    assert ask(method="head").status_code == 200


def test_what_is_let_in_is_an_event_with_the_route_the_proxy_names(ask, drain, api_key):
    ask(X_Tollgate_Endpoint="/forecast", X_Original_Method="POST", X_Tollgate_Cost="3")

    (event,) = ledger(drain)
    assert (event.endpoint, event.method, event.units, event.status, event.response_ms) == (
        "/forecast",
        "POST",
        3,
        0,
        0,
    )
    assert event.api_key_id == api_key.key.pk
    assert UsageRollup.objects.get().status == 0


def test_without_a_name_for_the_route_there_is_one_row_for_all(ask, drain):
    ask(X_Forwarded_Uri="/a/1?b=2", X_Forwarded_Method="PUT")
    ask(f"{AUTHORIZE}/a/2?c=3")  # As Envoy asks.
    ask(f"{AUTHORIZE}/", method="post")

    seen = [(event.endpoint, event.method) for event in ledger(drain)]
    assert seen == [("gateway", "PUT"), ("gateway", "GET"), ("gateway", "POST")]


def test_the_proxy_names_meter_and_cost(ask, drain, organization):
    include_tokens(organization)
    response = ask(X_Tollgate_Meter="tokens", X_Tollgate_Cost="250")

    assert '"period";r=750;' in response["RateLimit"]
    assert [(event.meter, event.units) for event in ledger(drain)] == [("tokens", 250)]


def test_a_cost_of_nothing_is_no_event_and_counts_in_the_rate(ask, drain):
    ask(X_Tollgate_Cost="0")

    assert '"minute";r=8;' in ask(X_Tollgate_Cost="0")["RateLimit"]
    assert ledger(drain) == []


def test_a_test_key_is_let_in_and_not_billed(ask, drain, api_key):
    restrict(api_key, mode="test")

    assert ask()["X-Tollgate-Mode"] == "test"
    assert ledger(drain) == []


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Basic dTpw", "Bearer sk_live_wrong", "\x00"])
def test_no_key_or_a_bad_one_is_401(ask, drain, authorization):
    response = ask(Authorization=authorization)

    assert response.status_code == 401
    assert code(response) in {"not_authenticated", "invalid_key"}
    assert response["WWW-Authenticate"].startswith('Bearer realm="Tollgate"')
    assert ledger(drain) == []


def test_a_revoked_key_is_refused_by_the_next_request(ask, api_key):
    assert ask().status_code == 200
    api_key.key.revoke()

    assert (ask().status_code, code(ask())) == (401, "invalid_key")


def test_a_scope_that_the_key_lacks_is_403(ask, api_key):
    restrict(api_key, scopes=["other"])
    response = ask(X_Tollgate_Scopes="forecasts:read forecasts:write")

    assert (response.status_code, code(response)) == (403, "insufficient_scope")
    assert 'scope="forecasts:read forecasts:write"' in response["WWW-Authenticate"]


def test_an_expired_key_is_401(ask, api_key):
    restrict(api_key, expires_at=clock.now() - timedelta(seconds=1))
    ask()

    assert code(ask()) in {
        "expired_key",
        "invalid_key",
    }  # The copy leaves out what had expired when it was made.


def test_a_key_is_bound_to_the_address_that_the_proxy_saw(ask, api_key):
    restrict(api_key, allowed_networks=["198.51.100.0/24"])

    assert ask(X_Tollgate_Address="198.51.100.7").status_code == 200
    assert code(ask(X_Tollgate_Address="203.0.113.1")) == "address_not_allowed"
    assert code(ask()) == "address_not_allowed"  # The proxy's own.


def test_behind_a_counted_proxy_the_address_is_the_forwarded_one(ask, api_key, settings):
    settings.TRUSTED_PROXIES = 1
    restrict(api_key, allowed_networks=["198.51.100.0/24"])

    assert ask(X_Forwarded_For="203.0.113.1, 198.51.100.7").status_code == 200
    assert ask(X_Forwarded_For="198.51.100.7, 203.0.113.1").status_code == 403


def test_the_rate_is_429_with_all_that_a_client_needs(ask, drain):
    for _ in range(10):
        ask()
    response = ask()

    assert (response.status_code, code(response)) == (429, "rate_limited")
    assert 1 <= int(response["Retry-After"]) <= 60
    assert response["RateLimit"].startswith('"minute";r=0;')
    assert len(ledger(drain)) == 10


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("X-Tollgate-Cost", "-1"),
        ("X-Tollgate-Cost", "1,0"),  # The client's beside the proxy's.
        ("X-Tollgate-Cost", "٣"),
        ("X-Tollgate-Meter", "Tokens!"),
        ("X-Tollgate-Scopes", 'a"b'),
        ("X-Tollgate-Address", "somewhere"),
        ("X-Tollgate-Endpoint", "é" * 10),
    ],
)
def test_a_header_that_is_not_understood_lets_nobody_in_and_is_named(ask, drain, header, value):
    response = ask(**{header.replace("-", "_"): value})

    assert (response.status_code, code(response)) == (400, "invalid")
    assert list(response.json()["errors"]) == [header]
    assert ledger(drain) == []


@pytest.mark.parametrize("token", [None, "", "nonsense", "tgs_" + "a" * 38])
def test_without_a_service_token_nothing_is_asked_and_nothing_charged(ask, drain, token):
    response = ask(X_Tollgate_Token=token)

    assert (response.status_code, code(response)) == (401, "invalid_service_token")
    assert ledger(drain) == []


def test_a_customers_key_is_no_service_token(ask, api_key):
    assert code(ask(X_Tollgate_Token=api_key.secret)) == "invalid_service_token"


def test_a_token_for_something_else_is_403(ask):
    response = ask(X_Tollgate_Token=service_token(ServiceToken.Scope.VERIFY))

    assert (response.status_code, code(response)) == (403, "insufficient_scope")
    assert response.json()["scopes"] == ["gateway:authorize"]


def test_a_revoked_service_token_is_refused_by_the_next_request(ask):
    assert ask().status_code == 200
    ServiceToken.objects.get().revoke()

    assert code(ask()) == "invalid_service_token"


def test_tries_without_a_token_are_limited_by_address_and_good_ones_are_not(ask):
    answers = [ask(X_Tollgate_Token="guess", X_Tollgate_Cost="0").status_code for _ in range(31)]

    assert answers == [401] * 30 + [429]
    assert ask().status_code == 200


def test_nginx_is_refused_with_403_and_the_rest_in_headers(ask):
    for _ in range(10):
        ask()
    response = ask(f"{AUTHORIZE}?refuse=403")

    assert (response.status_code, response["X-Tollgate-Status"]) == (403, "429")
    problem = json.loads(response["X-Tollgate-Problem"])
    assert problem == response.json()
    assert (problem["status"], problem["code"], problem["policy"]) == (429, "rate_limited", "minute")
    assert problem["retry_after"] == int(response["Retry-After"])


def test_nginx_hears_of_a_bad_key_as_everybody(ask):
    response = ask(f"{AUTHORIZE}?refuse=403", Authorization="Bearer nonsense")

    assert (response.status_code, response["X-Tollgate-Status"]) == (401, "401")
    assert json.loads(response["X-Tollgate-Problem"])["code"] == "invalid_key"


def test_a_problem_in_a_header_is_ascii(ask, organization):
    organization.entitlement.plan.name = "Frühling\n"
    organization.entitlement.plan.save()
    for _ in range(10):
        ask()

    value = ask(f"{AUTHORIZE}?refuse=403")["X-Tollgate-Problem"]

    assert value.isascii()
    assert value.isprintable()
    assert "Frühling" in json.loads(value)["detail"]


@pytest.mark.parametrize("token", [None, "nonsense", "other"])
def test_behind_nginx_a_bad_service_token_is_told_to_clients_as_an_outage(ask, token):
    secret = service_token(ServiceToken.Scope.VERIFY) if token == "other" else token
    response = ask(f"{AUTHORIZE}?refuse=403", X_Tollgate_Token=secret)

    assert (response.status_code, response["X-Tollgate-Status"]) == (403, "503")
    assert json.loads(response["X-Tollgate-Problem"])["code"] == "gate_unavailable"
    assert "WWW-Authenticate" not in response


def test_with_redis_out_of_reach_known_keys_and_tokens_are_let_in_and_recorded(ask, own_redis):
    ask()
    own_redis.stop()

    assert ask(X_Tollgate_Endpoint="/forecast").status_code == 200
    assert ask(X_Tollgate_Token="nonsense").status_code == 401
    assert UsageEvent.objects.get(endpoint="/forecast").units == 1


def test_with_redis_out_of_reach_nobody_is_let_in_where_the_setting_says_so(ask, own_redis, settings):
    settings.GATE_WITHOUT_REDIS = "refuse"
    own_redis.stop()

    assert (ask().status_code, code(ask())) == (503, "gate_unavailable")
    assert ask(f"{AUTHORIZE}?refuse=403")["X-Tollgate-Status"] == "503"


def test_a_warm_request_asks_no_postgresql(ask, django_assert_num_queries):
    ask()

    with django_assert_num_queries(0):
        ask()


def test_the_key_is_in_no_answer(ask, api_key):
    wrong = api_key.secret[:-1] + ("a" if api_key.secret[-1] != "a" else "b")

    assert wrong not in str(ask(Authorization=f"Bearer {wrong}").serialize())
    assert api_key.secret not in str(ask().serialize())
