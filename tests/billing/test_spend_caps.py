"""A customer's own cap: set on the page and by the API, and what the entitlement makes of it."""

import pytest
from djstripe import models as djstripe

from accounts.models import Membership, Organization, Role, User
from billing.entitlements import current_entitlement, refresh_entitlement
from billing.models import Meter, Plan, PlanQuota, PublishedPrice, SpendCap
from billing.spend_caps import cap_states, remove_spend_cap, set_spend_cap
from billing.stripe.changing import change_plan
from tests.billing.acme import Acme
from tests.billing.api import Program, problem
from tests.billing.test_billing_pages import sign_in
from tests.billing.test_pricing_pages import text_of

pytestmark = pytest.mark.django_db
PAGE = "/dashboard/billing/spend-caps/requests/"


def cap(acme, requests, amount: int, currency: str = "usd") -> None:
    set_spend_cap(acme.organization, requests, amount=amount, currency=currency)


def quota(acme) -> dict[str, object]:
    return current_entitlement(acme.organization).quotas["requests"]


def upgrade_in_mid_month(metered: Acme, meter: Meter, *, plan: Plan) -> None:
    """Set a cap of $50, use 600 units and change to a plan that includes 1,000 and bills others at a cent."""
    metered.bill_overage(plan, included=1_000, cents="1")
    cap(metered, meter, 5_000)
    metered.wait(days=10)
    metered.use(600)
    change_plan(metered.organization, plan=plan, interval="month")
    metered.see()


class TestEntitlement:
    def test_a_cap_is_units_by_the_customer_s_own_price(self, metered, requests):
        assert "spend_cap" not in quota(metered)

        cap(metered, requests, 5_000)

        assert quota(metered) == {"included": 100, "overage": "bill", "spend_cap": 2_600}

    def test_a_newer_price_of_the_plan_does_not_move_a_cap_before_the_customer_is_moved(
        self, metered, requests, plans
    ):
        cap(metered, requests, 5_000)

        metered.bill_overage(plans.pro, included=100, cents="10")
        refresh_entitlement(metered.organization)

        assert quota(metered)["spend_cap"] == 2_600

    def test_units_that_the_plan_includes_but_the_old_price_charges_count_as_what_they_cost(
        self, metered, requests
    ):
        PlanQuota.objects.update(included=500)

        cap(metered, requests, 200)

        assert quota(metered) == {"included": 500, "overage": "bill", "spend_cap": 200}

    def test_a_plan_that_refuses_further_calls_has_no_use_for_a_cap(self, metered, requests):
        PlanQuota.objects.update(overage="block")

        cap(metered, requests, 5_000)

        assert "spend_cap" not in quota(metered)

    def test_a_cap_in_another_currency_lets_nothing_through_that_costs(self, metered, requests):
        cap(metered, requests, 5_000, "eur")

        assert quota(metered)["spend_cap"] == 100

    def test_a_price_that_is_not_known_lets_nothing_through_beyond_the_quota(self, metered, requests):
        PublishedPrice.objects.exclude(meter=None).delete()

        cap(metered, requests, 5_000)

        assert quota(metered)["spend_cap"] == 100

    def test_in_a_trial_nothing_is_billed_and_nothing_capped(self, acme, plans, requests):
        acme.bill_overage(plans.pro, included=100, cents="2")
        acme.subscribe(plans.pro, trial_period_days=7)
        cap(acme, requests, 5_000)
        assert "spend_cap" not in quota(acme)

        acme.wait(days=8)
        acme.see()

        assert quota(acme)["spend_cap"] == 2_600

    def test_after_an_upgrade_in_mid_month_what_was_invoiced_of_the_month_counts(
        self, metered, plans, requests
    ):
        upgrade_in_mid_month(metered, requests, plan=plans.team)

        # 500 of the 600 were invoiced at 2 cents: $10. The other $40 are 1,000 free units and 4,000 at a cent.
        assert metered.invoiced_units() == 600
        assert quota(metered)["spend_cap"] == 600 + 5_000

    def test_an_upgrade_s_invoice_with_more_lines_than_are_known_here_lets_nothing_through_that_costs(
        self, metered, plans, requests
    ):
        upgrade_in_mid_month(metered, requests, plan=plans.team)
        change = djstripe.Invoice.objects.get(stripe_data__billing_reason="subscription_update")
        lines = change.stripe_data["lines"]
        known = [line for line in lines["data"] if line["parent"]["subscription_item_details"]["proration"]]
        change.stripe_data["lines"] = {**lines, "data": known, "has_more": True}
        change.save()

        refresh_entitlement(metered.organization)

        assert quota(metered)["spend_cap"] == 1_000

    def test_a_change_that_begins_the_month_anew_carries_the_spending_like_the_use(
        self, metered, plans, requests
    ):
        cap(metered, requests, 5_000)
        metered.wait(days=10)
        metered.use(600)

        change_plan(metered.organization, plan=plans.pro, interval="year")

        metered.see()
        entitlement = current_entitlement(metered.organization)
        assert entitlement.carried_from
        assert quota(metered)["spend_cap"] == 600 + 100 + 2_000

    def test_the_next_month_begins_with_the_whole_cap(self, metered, requests):
        cap(metered, requests, 5_000)
        metered.wait(days=10)
        metered.use(600)
        metered.wait(days=25)
        metered.see()

        assert quota(metered)["spend_cap"] == 2_600

    def test_removing_it_bills_without_end_again(self, metered, requests):
        cap(metered, requests, 5_000)

        assert remove_spend_cap(metered.organization, requests)

        assert "spend_cap" not in quota(metered)
        assert not remove_spend_cap(metered.organization, requests)

    def test_the_limits_in_words_name_it(self, metered, requests):
        cap(metered, requests, 5_000)

        (state,) = cap_states(metered.organization)
        assert state.sentence == (
            "$50 a month, before taxes. It is reached with 2,600 calls, the included ones counted; "
            "further ones are refused."
        )


class TestPage:
    def test_the_owner_sets_changes_and_removes_it(self, metered, browser, owner):
        assert "No cap: every further unit is billed. Set a cap" in text_of(
            browser.get("/dashboard/billing/")
        )

        text = text_of(browser.post(PAGE, {"amount": "50"}, follow=True))
        assert "Spend cap for Requests: $50 a month, before taxes. It is reached with 2,600 calls" in text
        assert SpendCap.objects.get().changed_by == owner
        assert 'value="50.00"' in browser.get(PAGE).text

        browser.post(PAGE, {"amount": "49.5"})
        assert SpendCap.objects.get().amount == 4_950

        assert "is gone" in text_of(browser.post(f"{PAGE}remove/", follow=True))
        assert not SpendCap.objects.exists()

    def test_what_is_no_amount_is_refused_beside_the_field_and_changes_nothing(self, metered, browser):
        page = browser.post(PAGE, {"amount": "1,000"})

        assert page.status_code == 422
        assert "Write an amount such as 50 or 49.50" in page.text
        assert 'aria-invalid="true"' in page.text
        assert not SpendCap.objects.exists()

    def test_a_plan_that_bills_nothing_beyond_offers_none(self, acme, plans, browser):
        acme.subscribe(plans.pro)

        assert "Spend cap" not in browser.get("/dashboard/billing/").text
        assert browser.get(PAGE).status_code == 404
        assert browser.post(PAGE, {"amount": "50"}).status_code == 404

    def test_a_cap_that_waits_says_so_and_can_be_removed(self, acme, plans, requests, browser):
        cap(acme, requests, 5_000)

        text = text_of(browser.get("/dashboard/billing/"))

        assert "$50 a month. It waits: your plan bills nothing beyond what it includes." in text
        assert "Remove the cap for Requests" in text

    def test_a_cap_in_another_currency_says_what_that_means(self, metered, requests, browser):
        cap(metered, requests, 5_000, "eur")

        text = text_of(browser.get("/dashboard/billing/"))

        assert "€50 a month, while you are billed in USD. Until you set it anew, no call beyond" in text
        assert 'value="' not in browser.get(PAGE).text.split('name="amount"')[1].split(">")[0]

    def test_the_overview_says_what_becomes_of_calls_beyond_the_included_ones(
        self, metered, requests, browser
    ):
        metered.use(100)
        assert "Nothing left: further calls are billed. Starts again" in text_of(browser.get("/dashboard/"))

        cap(metered, requests, 20)
        assert "further calls are billed, up to 110 by your spend cap." in text_of(browser.get("/dashboard/"))

        metered.use(10)
        assert "Your spend cap is reached: further calls are refused." in text_of(browser.get("/dashboard/"))

    def test_a_developer_sees_it_and_cannot_change_it(self, metered, requests, client, developer):
        cap(metered, requests, 5_000)
        sign_in(client, developer)

        page = client.get("/dashboard/billing/")

        assert "$50 a month" in page.text
        assert PAGE not in page.text
        assert client.post(PAGE, {"amount": "1"}).status_code == 403
        assert client.post(f"{PAGE}remove/").status_code == 403
        assert SpendCap.objects.get().amount == 5_000

    def test_an_outsider_reaches_only_their_own(self, metered, requests, client, outsider):
        cap(metered, requests, 5_000)
        sign_in(client, outsider)

        assert client.get(PAGE).status_code == 404
        client.post(f"{PAGE}remove/")

        assert SpendCap.objects.get().organization == metered.organization

    def test_who_manages_billing_alone_may(self, metered, client):
        user = User.objects.create_user("books@acme.example", "correct horse battery")
        Membership.objects.create(organization=metered.organization, user=user, role=Role.BILLING)
        sign_in(client, user)

        client.post(PAGE, {"amount": "12"})

        assert SpendCap.objects.get().amount == 1_200

    def test_staff_see_it_on_the_customer_s_page(self, metered, requests, admin_client):
        cap(metered, requests, 5_000)

        page = admin_client.get(f"/admin/billing/billingcustomer/{metered.organization.pk}/change/")

        assert "$50 a month, before taxes" in page.text
        assert "then billed, at most 2,600 calls by the spend cap" in page.text


class TestAPI:
    PATH = "spend-caps/requests"

    @pytest.fixture
    def program(self, metered) -> Program:
        return Program(metered.organization)

    def test_it_is_set_read_changed_and_removed_each_as_often_as_you_like(self, program):
        assert problem(program.get(self.PATH))["code"] == "not_found"

        for _ in range(2):
            answer = program.call("PUT", self.PATH, {"amount": 5_000})
            assert answer.status_code == 200
            assert answer.json() == program.get(self.PATH).json()
        assert {name: answer.json()[name] for name in ("meter", "amount", "currency", "stops_at")} == {
            "meter": "requests",
            "amount": 5_000,
            "currency": "usd",
            "stops_at": 2_600,
        }
        assert program.call("PUT", self.PATH, {"amount": 0, "currency": "usd"}).json()["stops_at"] == 100

        for _ in range(2):
            assert program.delete(self.PATH).status_code == 204
        assert not SpendCap.objects.exists()

    @pytest.mark.parametrize(
        ("body", "field", "sentence"),
        [
            ({}, "amount", "This field is required."),
            ({"amount": -1}, "amount", "Ensure this value is greater than or equal to 0."),
            ({"amount": 10**13}, "amount", "Ensure this value is less than or equal to 1000000000000."),
            ({"amount": "4.5"}, "amount", "A valid integer is required."),
            ({"amount": 5, "currency": "eur"}, "currency", "You are billed in usd."),
            ({"amount": 5, "currency": "US"}, "currency", "This value does not match the required pattern."),
            ({"amount": 5, "meter": "x"}, "meter", "There is no such field."),
        ],
    )
    def test_what_makes_no_sense_is_named(self, program, body, field, sentence):
        said = problem(program.call("PUT", self.PATH, body))

        assert (said["code"], said["errors"][field]) == ("invalid", [sentence])
        assert not SpendCap.objects.exists()

    def test_who_is_billed_in_nothing_yet_says_the_currency_and_may_set_one_ahead(self, organization):
        program = Program(organization)

        assert problem(program.call("PUT", self.PATH, {"amount": 5}))["errors"] == {
            "currency": ["Say which: you are not billed in any currency yet."]
        }
        answer = program.call("PUT", self.PATH, {"amount": 5, "currency": "eur"}).json()
        assert (answer["currency"], answer["stops_at"]) == ("eur", None)

    @pytest.mark.parametrize("meter", ["nothing", "REQUESTS", "a" * 300, "x%00"])
    def test_an_unknown_meter_is_a_404(self, program, meter):
        for method in ("GET", "PUT", "DELETE"):
            assert program.call(method, f"spend-caps/{meter}", {"amount": 1}).status_code == 404

    def test_it_costs_nothing_and_an_outsider_sees_none_of_it(self, program, outsider):
        program.call("PUT", self.PATH, {"amount": 5_000})
        rival = Program(Organization.objects.get(name="Rival"))

        assert rival.get(self.PATH).status_code == 404
        assert rival.delete(self.PATH).status_code == 204
        assert program.get(self.PATH).status_code == 200
