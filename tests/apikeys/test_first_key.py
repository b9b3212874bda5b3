"""The first key comes by itself, and once: on the pages, and with a subscription over the API."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from django.test import Client

from accounts.models import Membership, Role
from apikeys.gate import admit
from apikeys.models import APIKey
from billing.models import IdempotencyKey
from tests.billing.api import Program, problem
from tests.billing.cast import publish_all

pytestmark = pytest.mark.django_db
BACKEND = "allauth.account.auth_backends.AuthenticationBackend"
PAGE = "/dashboard/first-key/"


def sign_in(user) -> Client:
    client = Client()
    client.force_login(user, backend=BACKEND)
    return client


class TestOnThePages:
    def test_the_dashboard_offers_it_to_who_has_none(self, browser):
        assert "Create my first key" in browser.get("/dashboard/").content.decode()

        browser.post(PAGE)

        assert "Create my first key" not in browser.get("/dashboard/").content.decode()

    def test_it_is_shown_once_with_a_line_to_try_at_once(self, browser):
        page = browser.post(PAGE)

        secret = page.context["secret"]
        assert f'curl -H "Authorization: Bearer {secret}"' in page.context["curl_example"]
        assert admit(secret).admitted
        assert "no-store" in page["Cache-Control"]
        assert secret not in browser.get("/dashboard/keys/").content.decode()

    def test_nothing_is_made_by_looking(self, browser):
        assert browser.get(PAGE).status_code == 200
        assert APIKey.objects.count() == 0

    def test_who_has_a_key_gets_no_second_one(self, browser):
        browser.post(PAGE)

        assert browser.post(PAGE).url == browser.get(PAGE).url == "/dashboard/keys/"
        assert APIKey.objects.count() == 1

    def test_a_test_key_and_a_revoked_one_are_not_a_first_key(self, browser, organization, api_key):
        api_key.key.revoke()
        APIKey.objects.issue(organization=organization, name="ci", mode="test")

        assert browser.post(PAGE).context["secret"].startswith("sk_live_")

    def test_who_may_not_make_keys_is_offered_none(self, developer, organization):
        Membership.objects.filter(user=developer).update(role=Role.BILLING)
        client = sign_in(developer)

        assert "Create my first key" not in client.get("/dashboard/").content.decode()
        assert client.post(PAGE).status_code == client.get(PAGE).status_code == 403

    def test_an_outsider_gets_one_of_their_own(self, outsider, organization):
        sign_in(outsider).post(PAGE)

        assert APIKey.objects.get().organization != organization


class TestWithASubscription:
    @pytest.fixture(autouse=True)
    def on_sale(self, sandbox, plans):
        publish_all()

    def subscribe(self, client: Client, *, key: str = "", plan: str = "pro"):
        headers = {"Idempotency-Key": key} if key else {}
        return client.post(
            "/api/v1/subscription", {"plan": plan}, content_type="application/json", headers=headers
        )

    def test_subscribing_answers_the_first_key_beside_the_client_secret(self, browser, organization):
        begun = self.subscribe(browser)

        body = begun.json()
        assert begun.status_code == 201
        assert body["subscription_id"].startswith("sub_")
        assert "_secret_" in body["client_secret"]
        assert admit(body["api_key"]).admitted
        assert begun["Cache-Control"] == "no-store"
        assert APIKey.objects.get().organization == organization

    def test_once(self, browser):
        self.subscribe(browser)

        again = self.subscribe(browser).json()

        assert (again["status"], again["api_key"]) == ("incomplete", None)
        assert APIKey.objects.count() == 1

    def test_sent_again_under_its_idempotency_key_it_is_null_and_none_is_made(self, browser):
        first = self.subscribe(browser, key="try-1").json()
        APIKey.objects.get().revoke()

        again = self.subscribe(browser, key="try-1")

        assert again["Idempotency-Replayed"] == "true"
        assert again.json() == {**first, "api_key": None}
        assert APIKey.objects.count() == 1
        assert first["api_key"][20:] not in str(list(IdempotencyKey.objects.values()))

    def test_who_has_a_key_gets_none(self, organization):
        body = Program(organization).post("subscription", {"plan": "pro"}).json()

        assert (body["status"], body["api_key"]) == ("incomplete", None)
        assert APIKey.objects.count() == 1

    def test_a_subscription_that_fails_brings_no_key(self, browser):
        refused = self.subscribe(browser, plan="platinum")

        assert problem(refused)["code"] == "invalid"
        assert "api_key" not in refused.json()
        assert APIKey.objects.count() == 0

    def test_who_may_not_make_keys_subscribes_without_one(self, developer):
        Membership.objects.filter(user=developer).update(role=Role.BILLING)

        body = self.subscribe(sign_in(developer)).json()

        assert (body["status"], body["api_key"]) == ("incomplete", None)
        assert APIKey.objects.count() == 0

    def test_a_program_with_a_test_key_gets_its_live_one_unless_it_is_restricted(self, organization):
        program = Program(organization)
        APIKey.objects.get().revoke()
        for scopes in (["billing:write", "keys:write"], []):
            _, program.secret = APIKey.objects.issue(
                organization=organization, name="ci", mode="test", scopes=scopes
            )
            given = program.post("subscription", {"plan": "pro"}).json()["api_key"]
            assert bool(given) == (not scopes)
        assert given.startswith("sk_live_")


@pytest.mark.django_db(transaction=True)
def test_of_several_at_once_one_gets_the_key(sandbox, plans, owner, organization):
    publish_all()
    clients = [sign_in(owner) for _ in range(4)]

    def subscribe(client: Client) -> object:
        try:
            answer = client.post("/api/v1/subscription", {"plan": "pro"}, content_type="application/json")
            return answer.json()["api_key"]
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        given = list(threads.map(subscribe, clients))

    assert sum(secret is not None for secret in given) == APIKey.objects.count() == 1
