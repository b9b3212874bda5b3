"""The subscription over the API: begun, shown, changed and ended by a program."""

import pytest

from accounts.models import Organization
from billing.entitlements import current_entitlement
from billing.models import Access, StatusPolicy
from billing.standing import find_standing
from billing.stripe.client import get_client
from tests.billing.api import Program, problem
from tests.billing.buying import confirm, offer_trial, sell
from tests.billing.cards import ASKS, FAILS, use_card
from tests.billing.cast import publish_all, subscribe
from tests.billing.times import days_later

pytestmark = pytest.mark.django_db
ENDPOINTS = [
    ("GET", "subscription"),
    ("POST", "subscription"),
    ("PATCH", "subscription"),
    ("DELETE", "subscription"),
    ("GET", "subscription/preview"),
    ("GET", "subscription/cancel-preview"),
    ("POST", "subscription/resume"),
    ("POST", "subscription/undo"),
    ("POST", "checkout-sessions"),
    ("POST", "portal-sessions"),
    ("GET", "invoices"),
    ("GET", "invoices/in_1"),
]


@pytest.fixture
def program(organization):
    return Program(organization)


@pytest.fixture
def pro(sandbox, organization, plans):
    """Acme on Pro, paid this minute."""
    return subscribe(sandbox, organization, plan=plans.pro)


@pytest.fixture
def team(sandbox, organization, plans):
    return subscribe(sandbox, organization, plan=plans.team)


@pytest.fixture
def rival(outsider):
    return Program(Organization.objects.get(name="Rival"))


class TestShowing:
    def test_without_a_subscription_there_is_still_a_plan(self, program):
        shown = program.get("subscription").json()

        assert (shown["plan"], shown["status"], shown["subscription_id"]) == ("free", "none", None)
        assert (shown["access"], shown["limits_of"]) == ("limited", "free")
        assert shown["unit_amount"] is None

    def test_a_subscription_shows_what_is_paid_and_when(self, sandbox, organization, program, pro):
        shown = program.get("subscription").json()

        assert (shown["subscription_id"], shown["plan"], shown["status"]) == (pro.id, "pro", "active")
        assert (shown["unit_amount"], shown["currency"], shown["interval"]) == (2900, "usd", "month")
        assert shown["access"] == "full"
        assert shown["current_period_end"].startswith(
            f"{find_standing(organization).period_end:%Y-%m-%dT%H:%M}"
        )
        assert shown["payment_method"] == {
            "brand": "visa",
            "last4": "4242",
            "exp_month": 12,
            "exp_year": 2034,
        }
        assert (shown["cancels_at"], shown["scheduled_change"], shown["pending_upgrade"]) == (
            None,
            None,
            None,
        )

    def test_what_is_owed_is_shown_with_the_page_to_pay_it(
        self, sandbox, webhook_endpoint, organization, program, pro
    ):
        use_card(organization, FAILS)
        with days_later(sandbox, 32):
            shown = program.get("subscription").json()

        assert (shown["status"], shown["open_invoice"]["amount"]) == ("past_due", 2900)
        assert shown["open_invoice"]["url"].startswith("http")
        assert shown["message"].startswith("Your last payment did not go through.")
        assert shown["grace_ends_at"] is not None

    def test_management_costs_no_quota(self, sandbox, program, pro, drain):
        program.get("subscription")
        program.get("subscription/preview?plan=team")

        assert drain.run_once() == 0
        assert '"period";r=10000;' in program.get("invoices").headers["RateLimit"]

    def test_management_stays_open_to_who_gets_no_calls(
        self, sandbox, webhook_endpoint, organization, program, pro
    ):
        StatusPolicy.objects.filter(status="past_due").update(access=Access.NONE)
        use_card(organization, FAILS)
        with days_later(sandbox, 32):
            refused = program.get("echo")
            shown = program.get("subscription")

        assert problem(refused)["code"] == "suspended"
        assert (shown.status_code, shown.json()["access"]) == (200, "none")


class TestSubscribing:
    def test_a_program_subscribes_and_its_customer_confirms_the_payment(
        self, sandbox, organization, program, plans
    ):
        publish_all()

        begun = program.post("subscription", {"plan": "pro"})

        body = begun.json()
        assert (begun.status_code, body["status"], body["intent"]) == (201, "incomplete", "payment")
        assert current_entitlement(organization).plan == plans.free
        confirm(body["client_secret"])
        (subscription,) = sandbox.every("subscription")
        assert (subscription["id"], subscription["status"]) == (body["subscription_id"], "active")

    def test_a_trial_asks_for_a_card_and_no_payment(self, sandbox, program, plans):
        offer_trial(plans.pro)
        publish_all()

        body = program.post("subscription", {"plan": "pro"}).json()

        assert (body["status"], body["intent"]) == ("trialing", "setup")
        assert body["client_secret"].startswith("seti_")

    def test_interval_and_currency_can_be_chosen(self, sandbox, program, plans):
        publish_all()
        sell(plans.pro, interval="year", currency="eur", unit_amount=27_000)

        program.post("subscription", {"plan": "pro", "interval": "year", "currency": "eur"})

        (invoice,) = sandbox.every("invoice")
        assert (invoice["currency"], invoice["amount_due"]) == ("eur", 27_000)

    def test_a_subscriber_is_not_subscribed_again(self, sandbox, program, pro):
        assert problem(program.post("subscription", {"plan": "team"}))["code"] == "already_subscribed"
        assert len(list(sandbox.every("subscription"))) == 1

    def test_what_is_not_published_cannot_be_bought(self, sandbox, program):
        refused = problem(program.post("subscription", {"plan": "pro"}))

        assert (refused["status"], refused["code"]) == (409, "not_published")

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "plan"),
            ({"plan": "platinum"}, "plan"),
            ({"plan": "pro\0"}, "plan"),
            ({"plan": 7}, "plan"),
            ({"plan": ["pro"]}, "plan"),
            ({"plan": None}, "plan"),
            ({"plan": "pro", "interval": "week"}, "interval"),
            ({"plan": "pro", "currency": "dollars"}, "currency"),
            ({"plan": "pro", "coupon": "FREE"}, "coupon"),
            ([], "non_field_errors"),
            ("pro", "non_field_errors"),
        ],
    )
    def test_what_is_wrong_is_named_by_its_field(self, sandbox, program, plans, body, field):
        publish_all()

        refused = problem(program.post("subscription", body))

        assert (refused["status"], refused["code"], list(refused["errors"])) == (400, "invalid", [field])
        assert list(sandbox.every("subscription")) == []

    @pytest.mark.parametrize("body", ["{", "plan=pro", '{"plan": NaN}', "\xff"])
    def test_a_body_that_is_no_json_is_refused(self, sandbox, program, body):
        answer = program.client.generic(
            "POST",
            "/api/v1/subscription",
            body.encode("latin-1"),
            content_type="application/json",
            headers={"Authorization": f"Bearer {program.secret}"},
        )

        assert (answer.status_code, problem(answer)["code"]) == (400, "parse_error")

    def test_a_body_of_another_kind_is_refused(self, sandbox, program):
        answer = program.client.post(
            "/api/v1/subscription", {"plan": "pro"}, headers={"Authorization": f"Bearer {program.secret}"}
        )

        assert (answer.status_code, problem(answer)["code"]) == (415, "unsupported_media_type")


class TestChanging:
    def test_a_preview_says_to_the_cent_what_the_change_then_charges(
        self, sandbox, organization, program, pro
    ):
        preview = program.get("subscription/preview?plan=team").json()

        assert (preview["kind"], preview["plan"], preview["interval"]) == ("upgrade", "team", "month")
        assert sum(line["amount"] for line in preview["lines"]) == preview["amount_due"] == 7_000
        assert (preview["next_amount"], preview["currency"]) == (9_900, "usd")

        changed = program.patch("subscription", {"plan": "team", "token": preview["token"]})

        body = changed.json()
        assert (changed.status_code, body["outcome"], body["payment_url"]) == (200, "done", "")
        assert (body["subscription"]["plan"], body["subscription"]["unit_amount"]) == ("team", 9_900)
        assert sorted(i["amount_paid"] for i in sandbox.every("invoice")) == [2_900, 7_000]
        assert current_entitlement(organization).plan.slug == "team"

    def test_a_downgrade_is_scheduled_and_can_be_undone(self, sandbox, organization, program, team):
        scheduled = program.patch("subscription", {"plan": "pro"}).json()

        change = scheduled["subscription"]["scheduled_change"]
        assert (scheduled["outcome"], change["plan"], change["interval"]) == ("scheduled", "pro", "month")
        assert scheduled["subscription"]["plan"] == "team"

        undone = program.post("subscription/undo").json()

        assert undone["scheduled_change"] is None

    def test_left_out_the_interval_stays(self, sandbox, organization, program, plans, pro):
        sell(plans.pro, interval="year", unit_amount=29_000)
        sell(plans.team, interval="year", unit_amount=99_000)
        program.patch("subscription", {"plan": "pro", "interval": "year"})

        assert program.get("subscription/preview?plan=team").json()["interval"] == "year"
        assert program.patch("subscription", {"plan": "team"}).json()["subscription"]["interval"] == "year"

    def test_asking_for_what_is_so_changes_nothing(self, sandbox, program, pro):
        answer = program.patch("subscription", {"plan": "pro"})

        assert (answer.status_code, answer.json()["outcome"]) == (200, "done")
        assert len(list(sandbox.every("invoice"))) == 1

    def test_a_declined_payment_is_402_and_changes_nothing(self, sandbox, organization, program, pro):
        use_card(organization, FAILS)

        refused = problem(program.patch("subscription", {"plan": "team"}))

        assert (refused["status"], refused["code"]) == (402, "payment_declined")
        assert (refused["decline_code"], refused["detail"]) == ("generic_decline", "Your card was declined.")
        assert current_entitlement(organization).plan.slug == "pro"
        assert program.get("subscription").json()["pending_upgrade"] is None

    def test_a_bank_that_asks_is_answered_with_the_page_to_pay_on(self, sandbox, organization, program, pro):
        use_card(organization, ASKS)

        waiting = program.patch("subscription", {"plan": "team"})

        body = waiting.json()
        pending = body["subscription"]["pending_upgrade"]
        assert (waiting.status_code, body["outcome"]) == (202, "requires_action")
        assert body["payment_url"] == pending["payment_url"]
        assert (pending["plan"], pending["amount"]) == ("team", 7_000)
        assert body["subscription"]["plan"] == "pro"

    def test_a_preview_of_other_amounts_is_outdated(self, sandbox, organization, program, pro):
        token = program.get("subscription/preview?plan=team").json()["token"]
        program.patch("subscription", {"plan": "enterprise"})

        refused = problem(program.patch("subscription", {"plan": "team", "token": token}))

        assert (refused["status"], refused["code"]) == (409, "preview_outdated")
        assert current_entitlement(organization).plan.slug == "enterprise"

    def test_another_organization_s_preview_agrees_to_nothing(self, program, rival, pro):
        token = program.get("subscription/preview?plan=team").json()["token"]

        assert (
            problem(rival.patch("subscription", {"plan": "team", "token": token}))["code"]
            == "preview_outdated"
        )

    def test_what_cannot_be_changed_now_says_why(self, sandbox, program, pro):
        program.delete("subscription")

        refused = problem(program.patch("subscription", {"plan": "team"}))

        assert (refused["status"], refused["code"]) == (409, "set_to_end")

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"plan": "platinum"}, "plan"),
            ({"interval": "year"}, "plan"),
            ({"plan": "team", "interval": ""}, "interval"),
            ({"plan": "team", "token": 7 * "x" * 1_000}, "token"),
            ({"plan": "team", "currency": "eur"}, "currency"),
        ],
    )
    def test_what_is_wrong_is_named_by_its_field(self, sandbox, program, pro, body, field):
        assert list(problem(program.patch("subscription", body))["errors"]) == [field]

    @pytest.mark.parametrize("query", ["", "plan=platinum", "plan=%00", "plan=team&when=now"])
    def test_a_preview_of_nothing_is_refused(self, sandbox, program, pro, query):
        assert problem(program.get(f"subscription/preview?{query}"))["code"] == "invalid"


class TestEnding:
    def test_it_ends_with_what_is_paid_for_and_can_be_resumed(self, sandbox, organization, program, pro):
        ending = program.delete("subscription").json()

        assert ending["cancels_at"] == ending["current_period_end"]
        assert ending["plan"] == "pro"
        assert program.delete("subscription?when=period_end").json()["cancels_at"] == ending["cancels_at"]

        resumed = program.post("subscription/resume").json()

        assert resumed["cancels_at"] is None
        assert find_standing(organization).cancels_at is None

    def test_it_ends_now_with_the_last_invoice_as_previewed(self, sandbox, organization, program, pro):
        preview = program.get("subscription/cancel-preview").json()
        assert sum(line["amount"] for line in preview["lines"]) == preview["amount_due"] == 0

        ended = program.delete("subscription?when=now").json()

        assert (ended["status"], ended["plan"], ended["subscription_id"]) == ("canceled", "free", None)
        assert [s["status"] for s in sandbox.every("subscription")] == ["canceled"]
        assert program.delete("subscription?when=now").json()["status"] == "canceled"

    @pytest.mark.parametrize("query", ["when=later", "when=", "now=1"])
    def test_an_end_that_cannot_be_is_refused(self, sandbox, organization, program, pro, query):
        assert problem(program.delete(f"subscription?{query}"))["code"] == "invalid"
        assert find_standing(organization).cancels_at is None


class TestEverywhere:
    @pytest.mark.parametrize(
        "request_",
        [
            ("PATCH", "subscription", {"plan": "team"}),
            ("DELETE", "subscription", None),
            ("GET", "subscription/preview?plan=team", None),
            ("GET", "subscription/cancel-preview", None),
            ("POST", "subscription/resume", None),
            ("POST", "subscription/undo", None),
        ],
    )
    def test_an_outsider_has_no_subscription_of_acme_s(self, organization, rival, pro, request_):
        assert problem(rival.call(*request_))["code"] == "no_subscription"
        standing = find_standing(organization)
        assert (standing.plan.slug, standing.cancels_at) == ("pro", None)

    def test_an_outsider_sees_their_own_plan(self, sandbox, rival, pro):
        assert rival.get("subscription").json()["plan"] == "free"

    @pytest.mark.parametrize(("method", "path"), ENDPOINTS)
    def test_without_a_key_nothing_is_answered(self, client, db, method, path):
        answer = client.generic(method, f"/api/v1/{path}", "{}", content_type="application/json")

        assert (answer.status_code, problem(answer)["code"]) == (401, "not_authenticated")

    def test_with_stripe_down_a_write_may_be_sent_again(self, sandbox, organization, program, pro):
        sandbox.faults.add("server_error", times=20)

        refused = program.patch("subscription", {"plan": "team"})

        assert (problem(refused)["code"], refused["Retry-After"]) == ("provider_unavailable", "5")
        assert current_entitlement(organization).plan.slug == "pro"

    def test_what_stripe_refuses_is_told_with_its_code(self, sandbox, program, pro):
        # No request of ours is known that Stripe refuses for good: its catalogue is changed under us.
        get_client().v1.products.update("tollgate_team", {"active": False})
        price = next(p for p in sandbox.every("price") if p["product"] == "tollgate_team")
        get_client().v1.prices.update(price["id"], {"active": False})

        refused = problem(program.patch("subscription", {"plan": "team"}))

        assert (refused["status"], refused["code"]) == (422, "rejected_by_provider")
        assert refused["provider_param"]
