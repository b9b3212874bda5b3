"""The keys over the API: by a program with a key, and in a browser that is signed in."""

from datetime import timedelta
from uuid import UUID

import pytest
from django.test import Client
from redis.exceptions import ConnectionError as Unreachable

from accounts import clock
from accounts.models import Membership, Organization, Role
from apikeys.api.keys import KeyDetail, Keys
from apikeys.gate import admit
from apikeys.models import APIKey
from apikeys.secret import parse
from billing.api.subscription import Subscription
from billing.entitlements import refresh_entitlement
from billing.models import IdempotencyKey, Plan
from tests.billing.api import Program, problem

pytestmark = pytest.mark.django_db
BACKEND = "allauth.account.auth_backends.AuthenticationBackend"
ENDPOINTS = [
    ("GET", "keys"),
    ("POST", "keys"),
    ("GET", "keys/{id}"),
    ("PATCH", "keys/{id}"),
    ("DELETE", "keys/{id}"),
    ("POST", "keys/{id}/rotate"),
]


@pytest.fixture
def program(organization):
    return Program(organization)


@pytest.fixture
def own(program, organization) -> APIKey:
    """The key that the program calls with."""
    return organization.api_keys.get(name="program")


@pytest.fixture
def rival(outsider):
    return Program(Organization.objects.get(name="Rival"))


def restricted(program: Program, *scopes: str) -> Program:
    """Let the program go on with a key of these scopes alone."""
    program.secret = program.post("keys", {"name": "restricted", "scopes": scopes}).json()["secret"]
    return program


class TestCreating:
    def test_a_key_is_created_shown_once_and_works(self, program):
        created = program.post("keys", {"name": "production"})

        body = created.json()
        assert (created.status_code, body["name"], body["status"], body["mode"]) == (
            201,
            "production",
            "active",
            "live",
        )
        assert parse(body["secret"])
        assert body["prefix"] == body["secret"][:20]
        assert admit(body["secret"]).admitted
        assert body["secret"] not in program.get(f"keys/{body['id']}").content.decode()
        assert created["Cache-Control"] == "no-store"

    def test_with_everything_that_a_key_can_have(self, program):
        end = (clock.now() + timedelta(days=90)).replace(microsecond=0)
        asked = {
            "name": "ci",
            "mode": "test",
            "scopes": ["usage:read", "keys:read"],
            "expires_at": end.isoformat(),
            "allowed_networks": ["10.1.2.3/8", "2001:db8::1"],
            "rate_per_minute": 5,
        }

        body = program.post("keys", asked).json()

        assert body["secret"].startswith("sk_test_")
        assert body["scopes"] == ["keys:read", "usage:read"]
        assert body["allowed_networks"] == ["10.0.0.0/8", "2001:db8::1/128"]
        assert (body["rate_per_minute"], body["last_used_at"]) == (5, None)
        assert APIKey.objects.get(pk=body["id"]).expires_at == end

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "name"),
            ({"name": ""}, "name"),
            ({"name": "x", "scopes": ["fly"]}, "scopes"),
            ({"name": "x", "scopes": "keys:read"}, "scopes"),
            ({"name": "x", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
            ({"name": "x", "expires_at": "tomorrow"}, "expires_at"),
            ({"name": "x", "allowed_networks": ["10.0.0.0/99"]}, "allowed_networks"),
            ({"name": "x", "allowed_networks": [f"10.0.0.{n}" for n in range(51)]}, "allowed_networks"),
            ({"name": "x", "rate_per_minute": 0}, "rate_per_minute"),
            ({"name": "x", "mode": "free"}, "mode"),
            ({"name": "x", "prefix": "sk"}, "prefix"),
        ],
    )
    def test_what_is_wrong_is_named_by_its_field(self, program, body, field):
        refused = problem(program.post("keys", body))

        assert (refused["status"], refused["code"], list(refused["errors"])) == (400, "invalid", [field])
        assert APIKey.objects.count() == 1

    def test_beyond_the_plan_s_limit_it_is_refused(self, program, organization):
        Plan.objects.update(api_key_limit=1)
        refresh_entitlement(organization)

        refused = problem(program.post("keys", {"name": "one more"}))

        assert (refused["status"], refused["code"], refused["limit"]) == (409, "key_limit_reached", 1)

    def test_with_redis_out_of_reach_the_client_may_try_again(self, program, monkeypatch):
        def fail(ref: str) -> None:
            raise Unreachable

        program.get("keys")
        monkeypatch.setattr("apikeys.receivers.cache.drop", fail)
        refused = program.post("keys", {"name": "x"})

        assert (problem(refused)["code"], refused["Retry-After"]) == ("key_not_changed", "1")
        assert APIKey.objects.count() == 1


class TestSendingAgain:
    def test_the_same_request_makes_one_key_whose_secret_comes_once(self, program):
        first = program.post("keys", {"name": "production"}, key="try-1")
        again = program.post("keys", {"name": "production"}, key="try-1")

        assert first.json()["secret"]
        assert again["Idempotency-Replayed"] == "true"
        assert again.json() == {**first.json(), "secret": None}
        assert APIKey.objects.count() == 2

    def test_a_crash_before_the_answer_was_kept_makes_no_second_key(self, program):
        first = program.post("keys", {"name": "production"}, key="try-1").json()
        IdempotencyKey.objects.update(status=None, body=None, claimed_at=None)

        again = program.post("keys", {"name": "production"}, key="try-1").json()

        assert (again["id"], again["secret"]) == (first["id"], None)
        assert APIKey.objects.count() == 2

    def test_a_rotation_is_done_once(self, program, own):
        first = program.post(f"keys/{own.pk}/rotate", {"overlap": 3600}, key="try-1")
        again = program.post(f"keys/{own.pk}/rotate", {"overlap": 3600}, key="try-1")

        assert (first.status_code, again.status_code) == (201, 201)
        assert again.json() == {**first.json(), "secret": None}
        assert APIKey.objects.count() == 2

    def test_no_secret_is_stored_with_the_answer(self, program):
        secret = program.post("keys", {"name": "production"}, key="try-1").json()["secret"]

        assert secret[20:] not in str(list(IdempotencyKey.objects.values()))


class TestListing:
    def test_pages_follow_one_another_from_the_newest_on(self, program, organization):
        for number in range(4):
            APIKey.objects.issue(organization=organization, name=f"key {number}")
        names, cursor = [], ""
        while cursor is not None:
            page = program.get("keys?limit=2" + (f"&cursor={cursor}" if cursor else "")).json()
            names += [key["name"] for key in page["data"]]
            cursor = page["next_cursor"]

        assert names == ["key 3", "key 2", "key 1", "key 0", "program"]

    @pytest.mark.parametrize("query", ["cursor=x", f"cursor={UUID(int=7)}", "limit=0", "limit=101", "page=2"])
    def test_a_bad_page_is_refused(self, program, query):
        assert problem(program.get(f"keys?{query}"))["code"] == "invalid"

    def test_it_says_when_a_key_was_last_used_before_the_ledger_does(self, program, own):
        before = clock.now()

        shown = program.get(f"keys/{own.pk}").json()

        assert shown["last_used_at"] >= (before - timedelta(seconds=1)).isoformat()[:19]
        own.refresh_from_db()
        assert own.last_used_at is None


class TestChanging:
    def test_rename_and_restrict(self, program, own):
        changed = program.patch(f"keys/{own.pk}", {"name": "batch", "rate_per_minute": 7}).json()

        assert (changed["name"], changed["rate_per_minute"], changed["scopes"]) == ("batch", 7, [])
        assert program.patch(f"keys/{own.pk}", {"rate_per_minute": None}).json()["rate_per_minute"] is None

    def test_what_is_over_is_not_changed(self, program, organization):
        key, _ = APIKey.objects.issue(organization=organization, name="old")
        key.revoke()

        refused = problem(program.patch(f"keys/{key.pk}", {"name": "new"}))

        assert (refused["status"], refused["code"]) == (409, "key_not_active")

    def test_a_key_revokes_itself(self, program, own):
        revoked = program.delete(f"keys/{own.pk}").json()

        assert (revoked["status"], revoked["revoked_for"]) == ("revoked", "customer")
        assert problem(program.get("keys"))["code"] == "invalid_key"

    def test_a_key_rotates_itself(self, program, own):
        rotated = program.post(f"keys/{own.pk}/rotate", {"overlap": 60}).json()

        assert program.get("keys").status_code == 200
        program.secret = rotated["secret"]
        old = program.get(f"keys/{own.pk}").json()
        assert (old["status"], old["replaced_by"]) == ("replaced", rotated["id"])
        refused = problem(program.post(f"keys/{own.pk}/rotate", {}))
        assert (refused["status"], refused["code"]) == (409, "rotation_refused")

    @pytest.mark.parametrize("body", [{"overlap": -1}, {"overlap": 2_592_001}, {"overlap": "x"}, {"over": 1}])
    def test_a_bad_overlap_is_refused(self, program, own, body):
        assert problem(program.post(f"keys/{own.pk}/rotate", body))["code"] == "invalid"


class TestScopes:
    """What the gate asks of a key is the gate's to test; here, that a key hands on no more than it has."""

    @pytest.mark.parametrize(
        ("view", "method", "scope"),
        [
            (Keys, "GET", "keys:read"),
            (Keys, "POST", "keys:write"),
            (KeyDetail, "DELETE", "keys:write"),
            (Subscription, "GET", "billing:read"),
            (Subscription, "PATCH", "billing:write"),
        ],
    )
    def test_views_say_which_scope_they_want(self, rf, view, method, scope):
        asked = view()
        asked.request = rf.generic(method, "/")

        assert asked.gate_scopes == (scope,)

    @pytest.mark.parametrize("scopes", [[], ["billing:write", "keys:write"]])
    def test_a_restricted_key_gives_no_more_than_it_has(self, program, scopes):
        program = restricted(program, "keys:read", "keys:write")

        refused = problem(program.post("keys", {"name": "more", "scopes": scopes}))

        assert (refused["status"], refused["code"]) == (403, "scope_exceeded")
        assert program.post("keys", {"name": "less", "scopes": ["keys:read"]}).status_code == 201

    def test_a_restricted_key_neither_rotates_nor_changes_a_mightier_one(self, program, own):
        program = restricted(program, "keys:read", "keys:write")

        for answer in (
            program.post(f"keys/{own.pk}/rotate", {}),
            program.patch(f"keys/{own.pk}", {"name": "mine"}),
            program.patch(f"keys/{APIKey.objects.get(name='restricted').pk}", {"scopes": []}),
        ):
            assert problem(answer)["code"] == "scope_exceeded"
        own.refresh_from_db()
        assert (own.name, own.replaced_by_id) == ("program", None)


class TestOutsiders:
    @pytest.mark.parametrize(("method", "path"), [e for e in ENDPOINTS if "{id}" in e[1]])
    def test_another_organization_s_key_is_not_there(self, rival, own, method, path):
        answer = rival.call(method, path.format(id=own.pk), {} if method != "GET" else None)

        assert (answer.status_code, problem(answer)["code"]) == (404, "not_found")
        own.refresh_from_db()
        assert (own.status, own.name) == ("active", "program")

    def test_lists_hold_one_s_own_alone(self, rival, own):
        listed = rival.get("keys").json()["data"]

        assert [key["id"] for key in listed] == [
            str(rival_key.pk) for rival_key in APIKey.objects.exclude(pk=own.pk)
        ]
        assert problem(rival.get(f"keys?cursor={own.pk}"))["code"] == "invalid"

    @pytest.mark.parametrize(("method", "path"), ENDPOINTS)
    def test_without_a_key_nothing_is_answered(self, client, own, method, path):
        answer = client.generic(
            method, f"/api/v1/{path.format(id=own.pk)}", "{}", content_type="application/json"
        )

        assert (answer.status_code, problem(answer)["code"]) == (401, "not_authenticated")


class TestInABrowser:
    """A member who is signed in, with no key at all."""

    def as_member(self, user) -> Client:
        client = Client(enforce_csrf_checks=True)
        client.force_login(user, backend=BACKEND)
        client.get("/dashboard/keys/")  # Its form brings the token's cookie.
        return client

    def post(self, client: Client, path: str = "keys", *, token: bool = True):
        headers = {"X-CSRFToken": client.cookies["csrftoken"].value} if token else {}
        return client.post(
            f"/api/v1/{path}", {"name": "from here"}, content_type="application/json", headers=headers
        )

    def test_a_member_creates_a_key(self, owner, organization):
        created = self.post(self.as_member(owner))

        assert created.status_code == 201
        key = APIKey.objects.get()
        assert (key.created_by, key.organization) == (owner, organization)
        assert admit(created.json()["secret"]).admitted

    def test_without_the_csrf_token_nothing_is_written(self, owner, organization):
        refused = self.post(self.as_member(owner), token=False)

        assert (refused.status_code, problem(refused)["code"]) == (403, "permission_denied")
        assert APIKey.objects.count() == 0

    @pytest.mark.parametrize(
        ("role", "keys", "billing"),
        [(Role.ADMIN, 201, 404), (Role.DEVELOPER, 201, 403), (Role.BILLING, 403, 404)],
    )
    def test_the_role_decides_who_may_write(self, organization, developer, role, keys, billing):
        Membership.objects.filter(user=developer).update(role=role)
        client = self.as_member(developer)

        assert self.post(client).status_code == keys
        # There is none to undo: what is refused for the role is so before.
        assert self.post(client, "subscription/undo").status_code == billing
        assert client.get("/api/v1/keys").status_code == 200
        assert client.get("/api/v1/subscription").json()["plan"] == "free"

    def test_an_outsider_s_session_opens_nothing_of_acme_s(self, outsider, own):
        client = self.as_member(outsider)

        assert client.get("/api/v1/keys").json()["data"] == []
        assert client.get(f"/api/v1/keys/{own.pk}").status_code == 404
        assert self.post(client, f"keys/{own.pk}/rotate").status_code == 404

    def test_a_session_does_not_stand_in_for_a_bad_key(self, owner, organization):
        answer = self.as_member(owner).get("/api/v1/keys", headers={"Authorization": "Bearer nonsense"})

        assert problem(answer)["code"] == "invalid_key"

    def test_metered_endpoints_want_a_key(self, owner, organization):
        assert self.as_member(owner).get("/api/v1/echo").status_code == 401
