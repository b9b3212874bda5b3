"""The customer sees that what was used is what is billed: on a page and over the API, and never anybody else's."""

import json
import re

import pytest

from accounts.models import Organization
from apikeys.models import APIKey
from tests.billing.api import Program, problem
from tests.usage.proving import MAY, event_at_stripe, of_april, use_in, use_late
from usage import corrections
from usage.models import Proof
from usage.proof import prove
from usage.tasks import prove_usage_of, report_usage

pytestmark = pytest.mark.django_db
PAGE = "/dashboard/usage/proof/"
BACKEND = "allauth.account.auth_backends.AuthenticationBackend"


def text_of(response) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.text))


@pytest.fixture
def corrected(april):
    """Acme's April, proven, with twelve calls that came late and were charged later."""
    use_late(april, units=12)
    report_usage()
    corrections.send(corrections.make(corrections.propose(of_april(april))).pk)
    of_april(april)
    return april


class TestThePage:
    def test_it_shows_the_five_figures_and_that_they_agree(self, april, browser):
        of_april(april)

        page = text_of(browser.get(PAGE))

        assert "Requests, 1 April 2026 to 1 May 2026" in page
        assert "All figures agree." in page
        assert len(re.findall(r"\b130\b", page)) == 5

    def test_a_correction_is_told_with_its_amount(self, corrected, browser):
        page = text_of(browser.get(PAGE))

        assert (
            "Correction: 12 calls of 1-30 April 2026, reported late, $1.20: on your next invoice after that."
            in page
        )
        assert "Corrected on later invoices 12" in page

    def test_what_is_on_its_way_is_told(self, subscribed, browser):
        subscribed.use(100)
        report_usage()
        subscribed.use(1)
        of_april(subscribed)

        page = text_of(browser.get(PAGE))

        assert "1 call is on the way to our payment provider." in page
        assert "100 calls are for an invoice that is to come." in page
        assert "On invoices not yet" in page

    def test_a_difference_is_told_without_the_staff_s_words(self, subscribed, browser):
        subscribed.use(100)
        report_usage()
        event_at_stripe(subscribed, units=120)
        of_april(subscribed)

        page = text_of(browser.get(PAGE))

        assert "The figures do not agree. We know" in page
        assert "somebody else" not in page
        assert "Stripe" not in page

    def test_before_the_first_night_it_says_so(self, browser):
        assert "There is nothing to prove yet" in browser.get(PAGE).text

    def test_the_usage_page_leads_to_it(self, browser):
        assert f'href="{PAGE}"' in browser.get("/dashboard/usage/").text

    def test_an_outsider_sees_nothing_of_it(self, corrected, client, outsider):
        mine = Proof.objects.get()
        client.force_login(outsider, backend=BACKEND)

        assert "There is nothing to prove yet" in client.get(PAGE).text
        assert client.get(f"{PAGE}?after={mine.pk}").status_code == 404

    @pytest.mark.parametrize("after", ["0", "x", "9" * 30, "²"])
    def test_a_place_that_is_none_is_not_found(self, browser, after):
        assert browser.get(PAGE, {"after": after}).status_code == 404

    def test_it_works_without_a_script(self, april, browser):
        of_april(april)

        main = browser.get(PAGE).text.partition("<main")[2].partition("</main>")[0]

        assert "<script" not in main
        assert main.count("<h1") == 1


class TestTheAPI:
    def test_it_has_the_figures_of_each_period(self, corrected):
        (row,) = Program(corrected.organization).get("usage/proof").json()["data"]

        names = ("ledger", "rollups", "reported", "counted", "invoiced", "corrected", "on_its_way")
        assert [row[name] for name in names] == [142, 142, 142, 142, 130, 12, 0]
        assert (row["meter"], row["status"]) == ("requests", "proven")
        assert (row["period_start"], row["period_end"]) == ("2026-04-01T00:00:00Z", "2026-05-01T00:00:00Z")
        (correction,) = row["corrections"]
        assert (correction["units"], correction["amount"], correction["currency"]) == (12, 120, "usd")

    def test_staff_s_sentences_are_not_in_it(self, subscribed):
        subscribed.use(100)
        report_usage()
        event_at_stripe(subscribed, units=120)
        of_april(subscribed)

        answer = Program(subscribed.organization).get("usage/proof")

        assert answer.json()["data"][0]["status"] == "differs"
        assert "somebody else" not in answer.text
        assert "causes" not in answer.text

    def test_pages_follow_one_another_newest_first(self, april):
        use_in(april, MAY, units=3, period_start=MAY)
        prove(april.organization)
        program = Program(april.organization)

        first = program.get("usage/proof?limit=1").json()
        second = program.get(f"usage/proof?limit=1&cursor={first['next_cursor']}").json()

        assert [page["data"][0]["period_start"][:10] for page in (first, second)] == [
            "2026-05-01",
            "2026-04-01",
        ]
        assert second["next_cursor"] is None

    def test_another_tenant_s_place_is_refused(self, april, outsider):
        mine = of_april(april)
        rival: Organization = outsider.memberships.get().organization
        program = Program(rival)

        assert program.get("usage/proof").json() == {"data": [], "next_cursor": None, "is_counting": False}
        refused = problem(program.get(f"usage/proof?cursor={mine.pk}"))
        assert (refused["status"], refused["errors"]) == (400, {"cursor": ["This is no cursor of yours."]})

    @pytest.mark.parametrize(
        ("query", "field"), [("limit=0", "limit"), ("meter=nothing", "meter"), ("since=1", "since")]
    )
    def test_what_cannot_be_asked_is_named(self, organization, query, field):
        refused = problem(Program(organization).get(f"usage/proof?{query}"))

        assert (refused["code"], list(refused["errors"])) == ("invalid", [field])

    def test_a_key_without_the_scope_is_refused(self, organization):
        program = Program(organization)
        _, program.secret = APIKey.objects.issue(
            organization=organization, name="narrow", scopes=["billing:read"]
        )

        assert problem(program.get("usage/proof"))["code"] == "insufficient_scope"

    def test_nobody_without_a_key_sees_it(self, client, db):
        assert client.get("/api/v1/usage/proof").status_code == 401


class TestACountForWhoLooks:
    """Nobody has to wait for the night to see that their figures agree."""

    def queued(self, redis) -> list[str]:
        return [json.loads(each)["headers"]["task"] for each in redis.lrange("celery", 0, -1)]

    def test_the_first_look_has_a_worker_count_and_the_next_one_shows_it(self, subscribed, browser, redis):
        subscribed.use(3)
        report_usage()

        assert "counted for the first time" in text_of(browser.get(PAGE))
        assert self.queued(redis).count("usage.tasks.prove_usage_of") == 1
        prove_usage_of(str(subscribed.organization.pk))

        page = text_of(browser.get(PAGE))
        assert "All figures agree" in page
        assert "counted" in page
        assert "just now" not in page

    def test_who_looks_twice_within_a_minute_asks_once(self, subscribed, redis):
        program = Program(subscribed.organization)
        subscribed.use(3)

        assert [program.get("usage/proof").json()["is_counting"] for _ in range(3)] == [True, True, True]
        assert self.queued(redis).count("usage.tasks.prove_usage_of") == 1

    def test_what_was_counted_lately_is_not_counted_again(self, april, redis):
        program = Program(april.organization)
        prove(april.organization)

        assert program.get("usage/proof").json()["is_counting"] is False
        april.wait(minutes=11)
        assert program.get("usage/proof").json()["is_counting"] is True
        assert self.queued(redis).count("usage.tasks.prove_usage_of") == 1
