"""Idempotency-Key: a write whose answer was lost is sent again and done once."""

import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from accounts.clock import standing_at
from accounts.models import Organization
from billing.entitlements import current_entitlement
from billing.models import IdempotencyKey
from billing.models.idempotency import CLAIM
from billing.standing import find_standing
from billing.tasks import purge_idempotency_keys
from tests.billing.api import Program, problem
from tests.billing.buying import confirm
from tests.billing.cards import FAILS, set_up_portal, use_card
from tests.billing.cast import pay, publish_all, subscribe

pytestmark = pytest.mark.django_db
KEY = "7c0f3b8a-try-1"


@pytest.fixture
def program(organization):
    return Program(organization)


@pytest.fixture
def pro(sandbox, organization, plans):
    return subscribe(sandbox, organization, plan=plans.pro)


@pytest.fixture
def team(sandbox, organization, plans):
    return subscribe(sandbox, organization, plan=plans.team)


def test_a_change_sent_again_is_answered_as_before_and_not_made_again(sandbox, organization, program, pro):
    first = program.patch("subscription", {"plan": "team"}, key=KEY)
    program.patch("subscription", {"plan": "enterprise"})
    again = program.patch("subscription", {"plan": "team"}, key=KEY)

    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert (first.headers.get("Idempotency-Replayed"), again["Idempotency-Replayed"]) == (None, "true")
    assert find_standing(organization).plan.slug == "enterprise"


def test_the_order_of_fields_makes_no_other_request(sandbox, program, pro):
    program.patch("subscription", {"plan": "team", "interval": "month"}, key=KEY)

    again = program.patch("subscription", {"interval": "month", "plan": "team"}, key=KEY)

    assert again["Idempotency-Replayed"] == "true"


@pytest.mark.parametrize(
    "request_",
    [
        ("PATCH", "subscription", {"plan": "enterprise"}),
        ("POST", "subscription", {"plan": "team"}),
        ("DELETE", "subscription", None),
        ("POST", "subscription/resume", {}),
    ],
)
def test_a_key_of_another_request_is_refused(organization, program, pro, request_):
    program.patch("subscription", {"plan": "team"}, key=KEY)

    refused = problem(program.call(*request_, key=KEY))

    assert (refused["status"], refused["code"]) == (409, "idempotency_key_reused")
    standing = find_standing(organization)
    assert (standing.plan.slug, standing.cancels_at) == ("team", None)


def test_cancelling_later_and_cancelling_now_are_two_requests(sandbox, organization, program, pro):
    program.delete("subscription", key=KEY)

    assert problem(program.delete("subscription?when=now", key=KEY))["code"] == "idempotency_key_reused"
    assert find_standing(organization) is not None


def test_another_organization_may_use_the_same_key(outsider, program, pro):
    program.delete("subscription", key=KEY)
    rival = Program(Organization.objects.get(name="Rival"))

    assert problem(rival.delete("subscription", key=KEY))["code"] == "no_subscription"


class TestSecrets:
    def test_the_client_secret_is_given_again_and_stored_nowhere(self, sandbox, organization, program, plans):
        publish_all()
        first = program.post("subscription", {"plan": "pro"}, key=KEY)
        again = program.post("subscription", {"plan": "pro"}, key=KEY)

        assert again.json() == first.json()
        assert again["Idempotency-Replayed"] == "true"
        assert len(list(sandbox.every("subscription"))) == 1
        row = IdempotencyKey.objects.get()
        assert first.json()["client_secret"] not in f"{row.__dict__}"
        assert row.body == {
            "subscription_id": first.json()["subscription_id"],
            "status": "incomplete",
            "intent": "payment",
        }

    def test_once_it_is_paid_there_is_no_secret_to_give(self, sandbox, organization, program, plans):
        publish_all()
        first = program.post("subscription", {"plan": "pro"}, key=KEY)
        confirm(first.json()["client_secret"])

        again = program.post("subscription", {"plan": "pro"}, key=KEY)

        assert (again.status_code, again.json()) == (201, first.json() | {"client_secret": None})

    def test_a_checkout_sent_again_gives_the_same_page(self, sandbox, program, plans):
        publish_all()
        first, again = (program.post("checkout-sessions", {"plan": "pro"}, key=KEY) for _ in range(2))

        assert first.json() == again.json()
        assert first.json()["url"] not in f"{IdempotencyKey.objects.get().__dict__}"
        other = program.post("checkout-sessions", {"plan": "pro"}, key="another-try")
        assert other.json() != first.json()

    def test_a_checkout_that_was_paid_has_no_page(self, sandbox, program, plans):
        publish_all()
        pay(sandbox, program.post("checkout-sessions", {"plan": "pro"}, key=KEY).json()["url"])

        again = program.post("checkout-sessions", {"plan": "pro"}, key=KEY)

        assert (again.status_code, again.json()) == (201, {"url": None})

    def test_a_portal_visit_is_opened_anew(self, sandbox, program):
        set_up_portal()
        pages = [program.post("portal-sessions", key=KEY).json()["url"] for _ in range(2)]

        assert all(pages)
        assert all(page not in f"{IdempotencyKey.objects.get().__dict__}" for page in pages)

    def test_no_secret_is_logged(self, sandbox, program, plans, caplog):
        publish_all()
        with caplog.at_level(logging.DEBUG):
            secret = program.post("subscription", {"plan": "pro"}, key=KEY).json()["client_secret"]

        assert secret not in caplog.text
        assert program.secret not in caplog.text


class TestRefusals:
    def test_a_declined_payment_is_not_tried_again_by_a_retry(self, sandbox, organization, program, pro):
        use_card(organization, FAILS)
        first = problem(program.patch("subscription", {"plan": "team"}, key=KEY))
        tried = len(list(sandbox.every("charge")))

        again = problem(program.patch("subscription", {"plan": "team"}, key=KEY))

        assert (again["code"], again["decline_code"]) == ("payment_declined", "generic_decline")
        assert again["detail"] == first["detail"]
        assert len(list(sandbox.every("charge"))) == tried

        # A new wish is a new key.
        use_card(organization, "pm_card_visa")
        assert program.patch("subscription", {"plan": "team"}, key="another-try").status_code == 200

    def test_a_refusal_leaves_the_key_to_the_next_try(self, sandbox, organization, program, plans):
        assert problem(program.post("subscription", {"plan": "pro"}, key=KEY))["code"] == "not_published"
        publish_all()

        assert program.post("subscription", {"plan": "pro"}, key=KEY).status_code == 201

    def test_a_mistake_can_be_mended_under_the_same_key(self, sandbox, program, plans):
        publish_all()
        assert problem(program.post("subscription", {"plan": "prro"}, key=KEY))["code"] == "invalid"

        assert program.post("subscription", {"plan": "pro"}, key=KEY).status_code == 201

    def test_what_stripe_could_not_do_is_done_by_the_retry(self, sandbox, organization, program, pro):
        sandbox.faults.add("server_error", method="POST", path="/v1/subscriptions/*", times=20)
        assert (
            problem(program.patch("subscription", {"plan": "team"}, key=KEY))["code"]
            == "provider_unavailable"
        )
        sandbox.faults.clear()

        assert problem(program.delete("subscription", key=KEY))["code"] == "idempotency_key_reused"
        assert program.patch("subscription", {"plan": "team"}, key=KEY).status_code == 200
        assert current_entitlement(organization).plan.slug == "team"

    def test_a_change_whose_answer_stripe_lost_is_made_once(self, sandbox, organization, program, pro):
        sandbox.faults.add("timeout_after", method="POST", path="/v1/subscriptions/*", times=3)
        assert problem(program.patch("subscription", {"plan": "team"}, key=KEY))["status"] == 503
        sandbox.faults.clear()

        assert program.patch("subscription", {"plan": "team"}, key=KEY).json()["outcome"] == "done"
        assert sorted(i["amount_paid"] for i in sandbox.every("invoice")) == [2_900, 7_000]


class TestTime:
    def test_a_request_still_under_way_is_not_begun_again(self, sandbox, organization, program, pro):
        program.patch("subscription", {"plan": "team"}, key=KEY)
        row = IdempotencyKey.objects.get()
        now = datetime.now(UTC)
        IdempotencyKey.objects.update(status=None, body=None, claimed_at=now)

        refused = program.patch("subscription", {"plan": "team"}, key=KEY)

        assert (problem(refused)["code"], refused["Retry-After"]) == ("idempotency_key_in_use", "2")
        with standing_at(now + CLAIM):
            # Its process has died: whoever comes now finds out what became of it.
            assert program.patch("subscription", {"plan": "team"}, key=KEY).json()["outcome"] == "done"
        row.refresh_from_db()
        assert row.status == 200

    def test_a_key_is_kept_for_a_day_and_then_free(self, sandbox, organization, program, pro):
        program.delete("subscription", key=KEY)
        made = IdempotencyKey.objects.get().created_at
        with standing_at(made + timedelta(hours=24)):
            purge_idempotency_keys()
            assert problem(program.post("subscription/resume", key=KEY))["code"] == "idempotency_key_reused"
        with standing_at(made + timedelta(hours=24, seconds=1)):
            assert program.post("subscription/resume", key=KEY).status_code == 200

    def test_what_is_older_than_a_day_is_purged(self, sandbox, organization, program, pro):
        program.delete("subscription", key=KEY)
        with standing_at(datetime.now(UTC) + timedelta(hours=24, minutes=1)):
            program.post("subscription/resume", key="fresh")
            purge_idempotency_keys()

        assert list(IdempotencyKey.objects.values_list("key", flat=True)) == ["fresh"]


@pytest.mark.parametrize("key", ["a" * 255, "~!#$%&'()*+,-./:;<=>?@[]^_`{|}", "0"])
def test_any_visible_ascii_is_a_key(sandbox, organization, program, pro, key):
    assert program.delete("subscription", key=key).status_code == 200
    assert program.delete("subscription", key=key)["Idempotency-Replayed"] == "true"


@pytest.mark.parametrize("key", ["a" * 256, "two words", "é", "\x7f", " "])
def test_anything_else_is_no_key(sandbox, organization, program, pro, key):
    refused = problem(program.delete("subscription", key=key))

    assert (refused["code"], list(refused["errors"])) == ("invalid", ["Idempotency-Key"])
    assert find_standing(organization).cancels_at is None


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("callers", [2, 10])
def test_callers_at_once_make_one_change(sandbox, organization, program, plans, callers):
    subscribe(sandbox, organization, plan=plans.pro)

    def change(_: int):
        try:
            return program.patch("subscription", {"plan": "team"}, key=KEY)
        finally:
            connection.close()

    with ThreadPoolExecutor(callers) as threads:
        answers = list(threads.map(change, range(callers)))

    codes = {answer.status_code for answer in answers}
    assert codes <= {200, 409}
    assert 200 in codes
    assert {problem(a)["code"] for a in answers if a.status_code == 409} <= {"idempotency_key_in_use"}
    assert sorted(i["amount_paid"] for i in sandbox.every("invoice")) == [2_900, 7_000]
    assert program.patch("subscription", {"plan": "team"}, key=KEY)["Idempotency-Replayed"] == "true"
