"""The pages on which a customer changes plan, and what each of them says."""

import re

import pytest

from accounts.models import Organization
from billing.entitlements import current_entitlement
from billing.models import Plan
from billing.standing import find_standing
from billing.stripe.client import get_client
from tests.billing.buying import sell
from tests.billing.cards import ASKS, FAILS, use_card
from tests.billing.cast import publish_all, subscribe
from tests.billing.test_pricing_pages import text_of

pytestmark = pytest.mark.django_db
CHANGE = "/dashboard/billing/change/"
HALF_A_MONTH = 15 * 86_400


@pytest.fixture
def pro(sandbox, organization, plans):
    """Acme on Pro, paid this minute."""
    return subscribe(sandbox, organization, plan=plans.pro)


@pytest.fixture
def team(sandbox, organization, plans):
    """Acme on Team, paid this minute."""
    return subscribe(sandbox, organization, plan=plans.team)


def preview(browser, plan: str, interval: str = "month"):
    return browser.get(CHANGE, {"plan": plan, "interval": interval})


def agree(browser, page):
    """Press the button of a preview."""
    shown = page.context["preview"]
    form = {"plan": shown.plan.slug, "interval": shown.interval, "token": shown.token}
    return browser.post(CHANGE, form, follow=True)


def held(organization: Organization) -> str:
    return current_entitlement(organization).plan.slug


def sign_in(client, user) -> None:
    client.force_login(user, backend="allauth.account.auth_backends.AuthenticationBackend")


def test_an_upgrade_is_shown_to_the_cent_and_then_made(sandbox, browser, organization, pro):
    page = preview(browser, "team")
    text = text_of(page)

    # All of the month is left: Team's 99 less Pro's 29.
    assert "Upgrade to Team" in text
    assert "Due now $70" in text
    assert "at once, as soon as it is paid" in text
    assert "Calls a minute 100 500" in text
    assert "Calls a month 10,000 100,000" in text
    assert "Pay $70 and change" in text
    assert held(organization) == "pro"

    done = agree(browser, page)

    assert done.redirect_chain == [("/dashboard/billing/", 302)]
    assert "You are on Team now." in text_of(done)
    assert held(organization) == "team"
    assert sorted(i["amount_paid"] for i in sandbox.every("invoice")) == [2_900, 7_000]


def test_the_next_invoice_is_named_with_its_day(sandbox, browser, organization, pro):
    standing = find_standing(organization)

    text = text_of(preview(browser, "team"))

    assert (
        f"Next invoice $99 on {standing.period_end.day} {standing.period_end:%B %Y}, then each month" in text
    )


def test_a_second_click_on_an_upgrade_charges_nothing_more(sandbox, browser, organization, pro):
    page = preview(browser, "team")
    agree(browser, page)

    again = agree(browser, page)

    assert "You are on Team now." in text_of(again)
    assert len(list(sandbox.every("invoice"))) == 2


def test_amounts_that_have_changed_are_shown_again_before_anything_is_charged(
    sandbox, browser, organization, plans, pro
):
    page = preview(browser, "team")
    coupon = get_client().v1.coupons.create({"percent_off": 50, "duration": "once"})
    get_client().v1.subscriptions.update(pro.id, {"discounts": [{"coupon": coupon.id}]})

    again = agree(browser, page)

    assert again.status_code == 409
    assert "The amounts have changed since you saw them. Nothing was changed: please look again." in text_of(
        again
    )
    assert again.context["preview"].amount_due < 7_000
    assert held(organization) == "pro"

    assert "You are on Team now." in text_of(agree(browser, again))


@pytest.mark.parametrize("token", ["", "made-up", "\0", "x" * 5_000])
def test_a_change_that_was_not_agreed_to_is_shown_and_not_made(sandbox, browser, organization, pro, token):
    answer = browser.post(CHANGE, {"plan": "team", "interval": "month", "token": token})

    assert answer.status_code == 409
    assert "Due now $70" in text_of(answer)
    assert held(organization) == "pro"


def test_a_declined_card_says_so_and_changes_nothing(sandbox, browser, organization, pro):
    use_card(organization, FAILS)

    answer = agree(browser, preview(browser, "team"))

    assert answer.status_code == 402
    assert "Your card was declined. Nothing was changed. You are still on Pro." in text_of(answer)
    assert "Change card" in text_of(answer)
    assert held(organization) == "pro"
    assert find_standing(organization).pending_upgrade is None


def test_a_bank_that_asks_sends_the_customer_to_the_payment(sandbox, browser, organization, pro):
    use_card(organization, ASKS)
    shown = preview(browser, "team").context["preview"]
    form = {"plan": "team", "interval": "month", "token": shown.token}

    answer = browser.post(CHANGE, form)
    waiting = find_standing(organization).pending_upgrade

    assert answer.url == waiting.payment_url
    assert held(organization) == "pro"
    text = text_of(browser.get("/dashboard/billing/"))
    assert "Your upgrade to Team waits for its payment." in text
    assert "You have Pro meanwhile." in text
    assert "Complete the payment" in text
    assert waiting.payment_url in browser.get("/dashboard/billing/").content.decode()


def test_an_upgrade_that_waits_can_be_given_up(sandbox, browser, organization, pro):
    use_card(organization, ASKS)
    agreed = preview(browser, "team").context["preview"]
    browser.post(CHANGE, {"plan": "team", "interval": "month", "token": agreed.token})

    page = browser.post("/dashboard/billing/undo/", follow=True)

    assert "You keep Pro. The change was taken back." in text_of(page)
    assert "waits for its payment" not in text_of(page)
    assert find_standing(organization).pending_upgrade is None


def test_a_downgrade_is_shown_with_its_day_and_then_scheduled(sandbox, browser, organization, team):
    end = find_standing(organization).period_end
    day = f"{end.day} {end:%B %Y}"
    page = preview(browser, "pro")
    text = text_of(page)

    assert "Downgrade to Pro" in text
    assert f"on {day} ; until then you keep Team" in text or f"on {day}; until then you keep Team" in text
    assert "Due now $0" in text
    assert f"From then on $29 on {day}, then each month" in text
    assert f"The new limits count from {day}." in text

    done = text_of(agree(browser, page))

    assert f"You move to Pro on {day}. Until then you keep Team, and you can take this back." in done
    assert "Keep Team" in done
    assert f"{day}: $29" in done
    assert held(organization) == "team"


def test_a_scheduled_downgrade_can_be_taken_back(sandbox, browser, organization, team):
    agree(browser, preview(browser, "pro"))

    page = text_of(browser.post("/dashboard/billing/undo/", follow=True))
    again = text_of(browser.post("/dashboard/billing/undo/", follow=True))

    assert "You keep Team. The change was taken back." in page
    assert "You move to Pro on" not in page
    assert "You keep Team." in again
    assert find_standing(organization).scheduled_change is None


def test_a_change_to_free_is_an_end_of_the_subscription(sandbox, browser, organization, team):
    end = find_standing(organization).period_end
    day = f"{end.day} {end:%B %Y}"
    page = preview(browser, "free")

    assert "Downgrade to Free" in text_of(page)
    assert "From then on" not in text_of(page)
    assert f"Your subscription ends on {day}. You keep Team until then." in text_of(agree(browser, page))
    assert find_standing(organization).cancels_at == end


def test_paying_yearly_is_an_upgrade_of_the_same_plan(sandbox, browser, organization, plans, pro):
    sell(plans.pro, interval="year", unit_amount=29_000)

    page = preview(browser, "pro", "year")

    assert "Pay Pro yearly" in text_of(page)
    assert "Due now $261" in text_of(page)
    # The year begins when the customer has read that, not when it was reckoned.
    sandbox.clock.advance(30)
    assert "You are on Pro now, paid yearly." in text_of(agree(browser, page))
    assert find_standing(organization).interval == "year"


def test_a_trial_switches_at_once_for_nothing(sandbox, browser, organization, plans):
    plans.pro.trial_days = 14
    plans.pro.save()
    subscribe(sandbox, organization, plan=plans.pro)

    page = preview(browser, "team")

    assert "Due now $0" in text_of(page)
    assert "Change now" in text_of(page)
    assert "You are on Team now." in text_of(agree(browser, page))
    assert find_standing(organization).status == "trialing"


def test_the_plan_one_has_is_no_change(sandbox, browser, organization, pro):
    page = browser.get(CHANGE, {"plan": "pro"}, follow=True)

    assert "You are on Pro, paid by the month, already." in text_of(page)


def test_without_a_subscription_there_is_nothing_to_change(sandbox, browser, plans):
    publish_all()

    page = browser.get(CHANGE, {"plan": "team"}, follow=True)

    assert "You have no subscription to change. Choose a plan to begin one." in text_of(page)


def test_a_plan_that_is_not_on_sale_is_refused_with_a_sentence(sandbox, browser, organization, plans, pro):
    Plan.objects.get(slug="team").prices.filter(meter=None).update(unit_amount=1)

    page = browser.get(CHANGE, {"plan": "team"}, follow=True)

    assert "Team cannot be bought right now" in text_of(page)


def test_with_stripe_down_nothing_is_changed_and_the_page_says_so(sandbox, browser, organization, pro):
    page = preview(browser, "team")
    sandbox.faults.add("server_error", path="/v1/subscriptions*", times=20)

    answer = text_of(agree(browser, page))

    assert "The payment provider has a problem right now. Please try again. Nothing was changed." in answer
    assert held(organization) == "pro"


@pytest.mark.parametrize(
    "query", [{}, {"plan": "platinum"}, {"plan": "team\0"}, {"plan": "team", "interval": "week"}]
)
def test_a_change_to_nothing_that_is_sold_is_not_found(sandbox, browser, pro, query):
    assert browser.get(CHANGE, query).status_code == 404
    assert browser.post(CHANGE, query).status_code == 404


def test_a_teammate_without_the_role_may_neither_look_nor_change(
    sandbox, client, developer, organization, pro
):
    sign_in(client, developer)

    assert client.get(CHANGE, {"plan": "team"}).status_code == 403
    assert client.post(CHANGE, {"plan": "team"}).status_code == 403
    assert client.post("/dashboard/billing/undo/").status_code == 403
    assert held(organization) == "pro"


def test_an_outsider_changes_nothing_of_acme_s(browser, client, outsider, organization, pro):
    token = preview(browser, "team").context["preview"].token
    sign_in(client, outsider)

    page = client.post(CHANGE, {"plan": "team", "interval": "month", "token": token}, follow=True)
    client.post("/dashboard/billing/undo/")

    assert "You have no subscription to change." in text_of(page)
    assert held(organization) == "pro"


def test_too_many_changes_in_a_minute_are_refused(sandbox, browser, plans):
    statuses = [browser.post("/dashboard/billing/undo/").status_code for _ in range(45)]

    assert (statuses[0], statuses[-1]) == (302, 429)


def test_the_pages_take_no_get_for_a_change(sandbox, browser, pro):
    for path in ("undo", "resume", "portal", "checkout"):
        assert browser.get(f"/dashboard/billing/{path}/").status_code == 405


def test_each_limit_has_a_place_in_the_comparison(sandbox, browser, organization, plans, pro):
    plans.pro.burst = 30
    plans.pro.save()

    rows = re.findall(
        r'<th scope="row">([^<]*)</th><td class="number">([^<]*)</td><td class="number">([^<]*)</td>',
        preview(browser, "enterprise").content.decode(),
    )

    assert rows == [
        ("Calls a minute", "100", "no limit"),
        ("Calls at once", "30", "no limit"),
        ("Calls a month", "10,000", "unlimited"),
        ("API keys", "20", "no limit"),
    ]
