"""The customer's billing page, and the ways from it: cancelling, resuming, cards and details."""

import re
from datetime import timedelta

import pytest

from accounts.models import Membership, Role, User
from billing.entitlements import current_entitlement
from billing.models import Access, StatusPolicy
from billing.outlook import day
from billing.standing import find_standing
from billing.stripe.subscribing import create_subscription
from tests.billing.api import mirror_invoices
from tests.billing.buying import offer_trial
from tests.billing.cards import FAILS, choose_default_card, set_up_portal, use_card
from tests.billing.cast import publish_all, subscribe
from tests.billing.test_pricing_pages import text_of
from tests.billing.times import days_later

pytestmark = pytest.mark.django_db
BILLING, CANCEL = "/dashboard/billing/", "/dashboard/billing/cancel/"
MANAGERS_ALONE = ["change/?plan=team", "cancel/"]
BUTTONS = ["cancel/", "resume/", "undo/", "portal/"]


@pytest.fixture
def pro(sandbox, organization, plans):
    """Acme on Pro, paid this minute."""
    subscription = subscribe(sandbox, organization, plan=plans.pro)
    mirror_invoices()
    return subscription


def sign_in(client, user) -> None:
    client.force_login(user, backend="allauth.account.auth_backends.AuthenticationBackend")


def press(browser, button: str, **form: str) -> str:
    """Press a button of the billing page and return the words of the page that follows."""
    return text_of(browser.post(f"{BILLING}{button}/", form, follow=True))


class TestOverview:
    def test_a_customer_on_free_sees_their_plan_and_what_there_is(self, sandbox, browser, plans):
        publish_all()

        text = text_of(browser.get(BILLING))

        assert "No subscription" in text
        assert "Choose Pro" in text
        assert "No invoices yet." in text
        assert "Cancel the subscription" not in text

    def test_a_subscriber_sees_price_next_charge_card_and_invoice(self, sandbox, browser, organization, pro):
        standing = find_standing(organization)

        text = text_of(browser.get(BILLING))

        assert "Plan Pro Price $29 a month" in text
        assert f"Next charge {day(standing.period_end)}: $29 Paid with" in text
        assert "Visa ending in 4242 , expires 12/2034" in text
        assert "Change card" in text
        assert "Billing details" in text
        assert "Paid $29" in text

    def test_a_plan_that_bills_usage_says_so_beside_the_next_charge(
        self, sandbox, browser, organization, plans, pro
    ):
        plans.pro.quotas.update(overage="bill")

        assert ": $29 and what was used beyond the quota" in text_of(browser.get(BILLING))

    def test_a_trial_says_when_it_ends_and_what_comes_then(self, sandbox, browser, organization, plans):
        offer_trial(plans.pro)
        subscribe(sandbox, organization, plan=plans.pro)
        ends = day(find_standing(organization).trial_ends_at)

        text = text_of(browser.get(BILLING))

        assert f"Trial until {ends}" in text
        assert f"Next charge {ends}: $29" in text
        assert f"Trial until {ends}, then $29 a month." in text_of(browser.get("/dashboard/"))

    def test_an_overdue_payment_says_until_when_the_plan_stays_and_offers_to_pay(
        self, sandbox, webhook_endpoint, browser, organization, pro
    ):
        use_card(organization, FAILS)
        with days_later(sandbox, 32):
            owed = find_standing(organization).open_invoice
            grace = day(current_entitlement(organization).grace_end)
            page = browser.get(BILLING)
            overview = text_of(browser.get("/dashboard/"))

        text = text_of(page)
        assert "Your last payment did not go through. You keep Pro for seven days" in text
        assert f"Pro until {grace}, then the limits of Free." in text
        assert "Pay $29" in text
        assert owed.url in page.content.decode()
        assert f"Pro until {grace}, then the limits of Free." in overview
        assert "Pay $29" in overview

    def test_after_the_grace_the_page_says_whose_limits_apply(
        self, sandbox, webhook_endpoint, browser, organization, pro
    ):
        use_card(organization, FAILS)
        with days_later(sandbox, 32):
            pass
        with days_later(sandbox, 8):
            text = text_of(browser.get(BILLING))

        assert "Your payment is more than a week overdue. You have the limits of Free" in text
        assert "Plan Pro with the limits of Free" in text

    def test_what_the_policy_says_is_what_the_page_says(
        self, sandbox, webhook_endpoint, browser, organization, pro
    ):
        StatusPolicy.objects.filter(status="past_due", from_day=7).update(access=Access.NONE)
        StatusPolicy.objects.filter(status="past_due", from_day=0).update(banner="Pay us for {plan}.")
        use_card(organization, FAILS)
        with days_later(sandbox, 32):
            text = text_of(browser.get(BILLING))

        assert "Pay us for Pro." in text
        assert ", then no calls at all." in text

    def test_a_first_payment_that_is_not_made_can_be_made_or_dropped(
        self, sandbox, browser, organization, plans
    ):
        publish_all()
        create_subscription(organization, plan=plans.pro)
        mirror_invoices()

        page = browser.get(BILLING)
        text = text_of(page)

        assert "Your first payment is not complete: Pro begins as soon as it is." in text
        assert "Pay $29" in text
        assert "Cancel the subscription" in text
        assert "Choose Team" in text

    def test_a_refused_trial_is_explained(self, sandbox, browser, organization, plans):
        offer_trial(plans.pro)
        trial = organization.trials.create(
            plan=plans.pro,
            subscription_id="sub_1",
            started_at=current_entitlement(organization).period_start,
            ends_at=current_entitlement(organization).period_start + timedelta(days=14),
            is_guarded=True,
            outcome="refused",
            reason="card",
        )
        publish_all()

        assert trial.refusal in browser.get(BILLING).content.decode()


class TestCancelling:
    def test_the_page_says_until_when_and_what_now_would_cost(self, sandbox, browser, organization, pro):
        end = day(find_standing(organization).period_end)

        text = text_of(browser.get(CANCEL))

        assert f"On {end} , when what you have paid for ends" in text
        assert "You keep Pro with all its limits until then" in text
        assert "The limits of Free count at once." in text
        assert "−$29" in text
        assert 'value="period_end" checked' in browser.get(CANCEL).content.decode()

    def test_cancelling_at_the_period_s_end_keeps_the_plan_until_then(
        self, sandbox, browser, organization, pro
    ):
        end = day(find_standing(organization).period_end)

        text = press(browser, "cancel", when="period_end")

        assert f"Your subscription ends on {end}. You keep Pro until then." in text
        assert "Resume Pro" in text
        assert "Next charge" not in text
        assert "Cancel the subscription" not in text
        assert current_entitlement(organization).plan.slug == "pro"
        assert f"Ends on {end}." in text_of(browser.get("/dashboard/"))

    def test_a_second_click_cancels_the_same_thing(self, sandbox, browser, organization, pro):
        assert press(browser, "cancel", when="period_end") == press(browser, "cancel", when="period_end")

    def test_resuming_takes_the_cancellation_back(self, sandbox, browser, organization, pro):
        press(browser, "cancel", when="period_end")

        text = press(browser, "resume")

        assert "Your subscription goes on. You keep Pro." in text
        assert "Your subscription ends on" not in text
        assert find_standing(organization).cancels_at is None

    def test_cancelling_now_ends_it_now(self, sandbox, browser, organization, pro):
        text = press(browser, "cancel", when="now")

        assert "Your subscription has ended. You are on Free now." in text
        assert "Your Pro subscription has ended. You have the limits of Free." in text
        assert [s["status"] for s in sandbox.every("subscription")] == ["canceled"]

    def test_a_second_click_on_now_does_no_harm(self, sandbox, browser, organization, pro):
        press(browser, "cancel", when="now")

        assert "You have no subscription to cancel: you are on Free." in press(browser, "cancel", when="now")

    @pytest.mark.parametrize("when", ["", "never", "\0"])
    def test_without_an_answer_the_question_is_asked_again(self, sandbox, browser, organization, pro, when):
        answer = browser.post(CANCEL, {"when": when})

        assert answer.status_code == 422
        assert "Choose when your subscription is to end." in text_of(answer)
        assert find_standing(organization).cancels_at is None

    def test_without_a_subscription_there_is_nothing_to_cancel(self, sandbox, browser):
        assert "You have no subscription to cancel" in text_of(browser.get(CANCEL, follow=True))

    def test_with_stripe_down_the_end_of_the_period_can_still_be_asked_for(
        self, sandbox, browser, organization, pro
    ):
        sandbox.faults.add("server_error", times=20)

        text = text_of(browser.get(CANCEL))

        assert "The payment provider has a problem right now. Please try again." in text
        assert "Cancel the subscription" in text

    def test_what_stripe_could_not_do_is_said(self, sandbox, browser, organization, pro):
        sandbox.faults.add("server_error", times=20)

        assert "The payment provider has a problem right now." in press(browser, "cancel", when="period_end")
        assert find_standing(organization).cancels_at is None


class TestPortal:
    @pytest.mark.parametrize("flow", ["payment_method_update", "", "\0", "subscription_cancel"])
    def test_cards_and_details_are_changed_on_stripe_s_page(self, sandbox, browser, organization, pro, flow):
        set_up_portal()

        answer = browser.post(f"{BILLING}portal/", {"flow": flow})

        (session,) = sandbox.every("billing_portal.session")
        assert answer.url == session["url"]
        assert session["return_url"].endswith(f"{BILLING}portal/return/")
        assert (session["flow"] or {}).get("type") == ("payment_method_update" if flow[:3] == "pay" else None)

    def test_a_card_that_was_changed_there_is_charged_from_then_on(
        self, sandbox, webhook_endpoint, browser, organization, pro
    ):
        set_up_portal()
        browser.post(f"{BILLING}portal/", {"flow": "payment_method_update"})
        choose_default_card(organization, "pm_card_mastercard")

        # No webhook has been delivered.
        text = text_of(browser.get(f"{BILLING}portal/return/", follow=True))

        assert "Mastercard ending in 4444 is charged from now on." in text
        assert "Mastercard ending in 4444 , expires" in text
        with days_later(sandbox, 32):
            charged = [c["payment_method_details"]["card"]["last4"] for c in sandbox.every("charge")]
        assert charged == ["4242", "4444"]

    def test_opening_the_portal_changes_no_card(self, sandbox, browser, organization, pro):
        set_up_portal()
        press(browser, "portal")

        text = text_of(browser.get(f"{BILLING}portal/return/", follow=True))

        assert "Visa ending in 4242 , expires" in text
        assert "is charged from now on" not in text

    def test_coming_back_from_the_portal_with_stripe_down_is_no_error(
        self, sandbox, browser, organization, pro
    ):
        sandbox.faults.add("server_error", times=20)

        text = text_of(browser.get(f"{BILLING}portal/return/", follow=True))

        assert "What you changed will show here shortly." in text

    def test_a_portal_that_is_not_set_up_is_said_to_be_so(self, sandbox, browser, organization, pro):
        assert "The billing portal is not set up yet." in press(browser, "portal")


class TestRoles:
    @pytest.fixture
    def as_developer(self, client, developer):
        sign_in(client, developer)
        return client

    def test_a_developer_sees_all_and_may_do_nothing(self, sandbox, as_developer, organization, pro):
        page = as_developer.get(BILLING)
        text = text_of(page)

        assert "Price $29 a month" in text
        assert "Paid $29" in text
        for way in ("Change card", "Billing details", "Cancel the subscription", "Upgrade to Team"):
            assert way not in text
        # Log out is the only form.
        assert len(re.findall("<form", page.content.decode())) == 1

    def test_a_developer_is_not_offered_to_pay(
        self, sandbox, webhook_endpoint, as_developer, organization, pro
    ):
        use_card(organization, FAILS)
        with days_later(sandbox, 32):
            text = text_of(as_developer.get(BILLING))

        assert "Your last payment did not go through." in text
        assert "Pay $29" not in text

    @pytest.mark.parametrize("page", MANAGERS_ALONE)
    def test_a_developer_may_not_open_what_changes_things(self, sandbox, as_developer, pro, page):
        assert as_developer.get(BILLING + page).status_code == 403

    @pytest.mark.parametrize("button", BUTTONS)
    def test_a_developer_may_press_no_button(self, sandbox, as_developer, organization, pro, button):
        assert as_developer.post(BILLING + button, {"when": "now"}).status_code == 403
        assert find_standing(organization).cancels_at is None

    def test_a_billing_member_may(self, sandbox, client, organization, pro):
        member = User.objects.create_user("money@acme.example", "correct horse battery")
        Membership.objects.create(organization=organization, user=member, role=Role.BILLING)
        sign_in(client, member)

        assert "Resume Pro" in press(client, "cancel", when="period_end")

    @pytest.mark.parametrize("button", BUTTONS)
    def test_an_outsider_changes_nothing_of_acme_s(self, client, outsider, organization, pro, button):
        sign_in(client, outsider)

        client.post(BILLING + button, {"when": "now"})

        standing = find_standing(organization)
        assert (standing.status, standing.cancels_at) == ("active", None)
        assert "Visa" not in text_of(client.get(BILLING))

    @pytest.mark.parametrize("button", [*BUTTONS, "change/", "checkout/"])
    def test_who_is_not_signed_in_is_sent_to_the_login(self, client, db, button):
        answer = client.post(BILLING + button)

        assert (answer.status_code, answer.url.split("?")[0]) == (302, "/login/")

    @pytest.mark.parametrize("button", BUTTONS)
    def test_each_button_is_limited_by_the_minute(self, sandbox, browser, plans, button):
        statuses = [browser.post(BILLING + button).status_code for _ in range(65)]

        assert statuses[-1] == 429


def test_pages_run_no_script_of_their_own(sandbox, browser, organization, plans, pro):
    pages = [browser.get(path).content.decode() for path in (BILLING, CANCEL, f"{BILLING}change/?plan=team")]

    for page in pages:
        assert re.findall(r"<script(?![^>]*\bsrc=)", page) == []
        assert re.findall(r"\son\w+=", page) == []
        assert "style=" not in page
