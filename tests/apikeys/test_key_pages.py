from datetime import UTC, datetime, timedelta
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from redis.exceptions import ConnectionError as Unreachable

from accounts import clock
from accounts.models import Membership, Role
from apikeys.gate import admit
from apikeys.models import APIKey
from apikeys.secret import digest, parse
from billing.entitlements import refresh_entitlement
from billing.models import Plan
from tests.usage.cast import make_event, serve
from usage import ledger

pytestmark = pytest.mark.django_db
BACKEND = "allauth.account.auth_backends.AuthenticationBackend"


def create(client, name: str = "production"):
    return client.post("/dashboard/keys/", {"name": name})


def test_a_new_key_is_shown_once_and_works(browser):
    page = create(browser)
    secret = page.context["secret"]

    assert secret in page.content.decode()
    assert admit(secret).admitted
    assert secret not in browser.get("/dashboard/keys/").content.decode()


def test_the_page_with_a_new_key_is_kept_in_no_cache(browser):
    assert "no-store" in create(browser)["Cache-Control"]


def test_only_the_digest_and_the_beginning_are_stored(browser):
    secret = create(browser).context["secret"]

    row = APIKey.objects.values().get()
    assert (row["digest"], row["prefix"]) == (digest(secret), secret[:20])
    assert secret not in str(row)


def test_a_key_carries_its_organization_s_ref(browser, organization):
    assert parse(create(browser).context["secret"]).ref == organization.ref


@pytest.mark.parametrize("name", ["", "   ", "x" * 101])
def test_a_key_needs_a_name_of_reasonable_length(browser, name):
    page = create(browser, name)

    assert page.status_code == 422
    assert page.context["form"].errors["name"]
    assert APIKey.objects.count() == 0


def test_revoking_on_the_page_refuses_the_next_call(browser):
    secret = create(browser).context["secret"]
    key = APIKey.objects.get()

    browser.post(f"/dashboard/keys/{key.pk}/revoke/")

    assert admit(secret).reason == "invalid_key"
    assert not APIKey.objects.get().is_active


def test_revoking_takes_a_post(browser, api_key):
    assert browser.get(f"/dashboard/keys/{api_key.key.pk}/revoke/").status_code == 405
    assert APIKey.objects.get().is_active


def test_an_outsider_can_neither_see_nor_revoke_a_key(client, outsider, api_key):
    client.force_login(outsider, backend=BACKEND)

    assert client.post(f"/dashboard/keys/{api_key.key.pk}/revoke/").status_code == 404
    assert api_key.key.prefix not in client.get("/dashboard/keys/").content.decode()
    assert APIKey.objects.get().is_active


def test_a_teammate_for_billing_sees_keys_but_makes_none(client, outsider, api_key, organization):
    Membership.objects.filter(user=outsider).update(organization=organization, role=Role.BILLING)
    client.force_login(outsider, backend=BACKEND)

    assert create(client).status_code == 403
    assert client.post(f"/dashboard/keys/{api_key.key.pk}/revoke/").status_code == 403
    assert api_key.key.prefix in client.get("/dashboard/keys/").content.decode()
    assert list(APIKey.objects.all()) == [api_key.key]


def test_with_redis_out_of_reach_a_key_is_not_called_revoked(browser, api_key, monkeypatch):
    def fail(ref: str) -> None:
        raise Unreachable

    monkeypatch.setattr("apikeys.receivers.cache.drop", fail)
    page = browser.post(f"/dashboard/keys/{api_key.key.pk}/revoke/", follow=True)

    assert "is not revoked yet" in page.content.decode()
    assert APIKey.objects.get().is_active


def test_the_dashboard_shows_plan_and_usage(browser, api_key, drain):
    serve(api_key, calls=7)
    drain.run_once()
    page = browser.get("/dashboard/")

    (meter,) = page.context["meters"]
    assert (meter.used, meter.included, meter.remaining, meter.percent) == (7, 100, 93, 7)
    assert 'id="used-units"' in page.content.decode()


def test_pages_take_the_same_few_queries_however_many_events_there_are(
    browser, api_key, drain, django_assert_max_num_queries
):
    serve(api_key, calls=10)
    drain.run_once()

    for page in ("/dashboard/", "/dashboard/usage/", "/dashboard/billing/", "/dashboard/keys/"):
        with django_assert_max_num_queries(20):
            assert browser.get(page).status_code == 200


def test_sending_the_form_again_makes_no_second_key(browser):
    form = {
        "name": "production",
        "attempt": browser.get("/dashboard/keys/").context["form"]["attempt"].value(),
    }
    first = browser.post("/dashboard/keys/", form)
    again = browser.post("/dashboard/keys/", form)

    assert first.context["secret"]
    assert again.url == "/dashboard/keys/"
    assert APIKey.objects.count() == 1


class TestRestricting:
    FORM = {
        "name": "ci",
        "mode": "test",
        "scopes": ["keys:read", "usage:read"],
        "expires_at": "2099-01-01T00:00",
        "allowed_networks": "203.0.113.7\r\n2001:db8::/32, 10.1.2.3/8",
        "rate_per_minute": "5",
    }

    def test_more_options_are_kept(self, browser, organization):
        end = clock.now() + timedelta(days=400)
        organization.time_zone = "Europe/Berlin"
        organization.save()

        page = browser.post("/dashboard/keys/", self.FORM | {"expires_at": f"{end:%Y-%m-%dT}12:30"})

        key = APIKey.objects.get()
        assert page.context["secret"].startswith("sk_test_")
        assert key.scopes == ["keys:read", "usage:read"]
        assert key.allowed_networks == ["203.0.113.7/32", "2001:db8::/32", "10.0.0.0/8"]
        assert key.rate_per_minute == 5
        assert f"{key.expires_at.astimezone(ZoneInfo('Europe/Berlin')):%H:%M}" == "12:30"
        assert "12:30" in page.content.decode()

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"scopes": ["everything"]}, "scopes"),
            ({"expires_at": "2020-01-01T00:00"}, "expires_at"),
            ({"expires_at": "soon"}, "expires_at"),
            ({"allowed_networks": "10.0.0.0/99"}, "allowed_networks"),
            ({"rate_per_minute": "0"}, "rate_per_minute"),
            ({"mode": "free"}, "mode"),
        ],
    )
    def test_what_is_wrong_is_said_at_its_field_and_kept_open(self, browser, change, field):
        page = browser.post("/dashboard/keys/", {"name": "ci"} | change)

        assert (page.status_code, list(page.context["form"].errors)) == (422, [field])
        assert '<details class="more" open>' in page.content.decode()
        assert APIKey.objects.count() == 0

    def test_a_full_plan_says_so_with_the_way_out(self, browser, organization):
        Plan.objects.update(api_key_limit=1)
        refresh_entitlement(organization)
        create(browser)

        for page in (browser.get("/dashboard/keys/"), create(browser)):
            said = page.content.decode()
            assert "Your plan includes 1 active key, and you have 1." in said
            assert '<a href="/dashboard/billing/">choose a larger plan</a>' in said
        assert page.status_code == 409
        assert APIKey.objects.count() == 1


class TestOneKey:
    @pytest.fixture
    def page(self, api_key) -> str:
        return f"/dashboard/keys/{api_key.key.pk}/"

    def test_it_is_renamed_and_restricted(self, browser, api_key, page):
        browser.post(page, {"name": "batch", "scopes": ["keys:read"], "rate_per_minute": "9"})

        api_key.key.refresh_from_db()
        assert (api_key.key.name, api_key.key.scopes, api_key.key.rate_per_minute) == (
            "batch",
            ["keys:read"],
            9,
        )

    def test_saving_it_as_it_is_changes_nothing(self, browser, api_key, page):
        end = clock.now() + timedelta(days=3, seconds=42)
        api_key.key.change(expires_at=end, allowed_networks=["10.0.0.0/8", "192.0.2.1"])
        shown = browser.get(page).context["form"]
        form = {name: shown[name].value() for name in shown.fields if shown[name].value() is not None}
        form["expires_at"] = f"{end:%Y-%m-%dT%H:%M}"

        browser.post(page, form)

        api_key.key.refresh_from_db()
        assert api_key.key.expires_at == end
        assert api_key.key.allowed_networks == ["10.0.0.0/8", "192.0.2.1/32"]

    def test_it_is_rotated_and_the_old_one_shown_beside_the_new(self, browser, api_key, page, organization):
        admit(api_key.secret, address="192.0.2.1")
        # All of this hour's calls were the old key's, and before the rotation.
        ledger.store([make_event(organization_id=organization.pk, at=clock.now(), api_key_id=api_key.key.pk)])
        answer = browser.post(f"{page}rotate/", {"overlap": "86400"})

        assert admit(answer.context["secret"]).admitted
        said = " ".join(answer.content.decode().split())
        assert "<strong>Old key:</strong> no call since the rotation just now. </p>" in said
        assert APIKey.objects.get(pk=api_key.key.pk).status == "replaced"

    def test_sending_the_rotation_again_makes_no_third_key(self, browser, api_key, page):
        form = {"overlap": "3600", "attempt": str(uuid4())}
        browser.post(f"{page}rotate/", form)

        assert browser.post(f"{page}rotate/", form).url == "/dashboard/keys/"
        assert browser.post(f"{page}rotate/", {"overlap": "3600"}).url == page
        assert APIKey.objects.count() == 2

    def test_who_still_calls_with_the_old_key_is_said(self, browser, api_key, page, organization, drain):
        noon = datetime(2026, 4, 10, 12, tzinfo=UTC)
        with clock.standing_at(noon) as hands:
            refresh_entitlement(organization)
            secret = browser.post(f"{page}rotate/", {"overlap": "86400"}).context["secret"]
            new = APIKey.objects.exclude(pk=api_key.key.pk).get()
            hands.move(noon + timedelta(hours=1))
            for address in ("192.0.2.1", "192.0.2.2", "2001:db8::3"):
                assert admit(api_key.secret, address=address).admitted
            for key, calls in ((api_key.key, 1), (new, 249)):
                ledger.store(
                    [
                        make_event(organization_id=organization.pk, at=clock.now(), api_key_id=key.pk)
                        for _ in range(calls)
                    ]
                )
            hands.move(noon + timedelta(hours=1, minutes=12))

            for address in ("/dashboard/keys/", page):
                said = " ".join(browser.get(address).content.decode().replace("\xa0", " ").split())
                assert (
                    "<strong>Old key:</strong> last call 12 minutes ago from 3 addresses, 0.4 % of calls"
                    in said
                )
                assert "<code>2001:db8::3</code>" in said
                assert "safe to revoke" not in said
            assert admit(secret).admitted

    def test_until_a_full_hour_has_begun_the_page_says_when_the_part_of_calls_is_known(
        self, browser, api_key, page, organization
    ):
        with clock.standing_at(datetime(2026, 4, 10, 12, 20, tzinfo=UTC)) as hands:
            refresh_entitlement(organization)
            ledger.store(
                [make_event(organization_id=organization.pk, at=clock.now(), api_key_id=api_key.key.pk)]
            )
            browser.post(f"{page}rotate/", {"overlap": "86400"})
            hands.move(datetime(2026, 4, 10, 12, 40, tzinfo=UTC))
            assert admit(api_key.secret, address="192.0.2.1").admitted

            said = " ".join(browser.get(page).content.decode().replace("\xa0", " ").split())

        assert "<strong>Old key:</strong> last call just now from 1 address. </p>" in said
        assert "The part of calls is known from 10 Apr, 13:00 UTC on." in said

    def test_with_redis_out_of_reach_the_page_says_what_it_does_not_know(
        self, browser, api_key, page, monkeypatch
    ):
        class Gone:
            def pipeline(self, **kwargs: object) -> None:
                raise Unreachable

        browser.post(f"{page}rotate/", {"overlap": "86400"})
        monkeypatch.setattr("apikeys.sightings.get_redis", Gone)

        for address in ("/dashboard/keys/", page):
            answer = browser.get(address)
            assert answer.status_code == 200
            assert "its last calls are not known right now" in answer.content.decode()
            assert "safe to revoke" not in answer.content.decode()

    def test_the_overlap_is_extended_and_ended(self, browser, api_key, page):
        browser.post(f"{page}rotate/", {"overlap": "3600"})

        said = browser.post(f"{page}extend/", {"span": "604800"}, follow=True).content.decode()

        assert "works until" in said
        api_key.key.refresh_from_db()
        assert api_key.key.expires_at > clock.now() + timedelta(days=6)
        browser.post(f"{page}revoke/")
        assert not admit(api_key.secret).admitted

    @pytest.mark.parametrize("path", ["", "rotate/", "extend/", "revoke/"])
    def test_an_outsider_finds_no_such_key(self, client, outsider, api_key, page, path):
        client.force_login(outsider, backend=BACKEND)

        answer = client.post(page + path, {"name": "mine", "overlap": "3600", "span": "3600"})

        assert answer.status_code == 404
        if not path:
            assert client.get(page).status_code == 404
        before = (api_key.key.name, api_key.key.expires_at)
        api_key.key.refresh_from_db()
        assert (api_key.key.name, api_key.key.expires_at) == before
        assert APIKey.objects.count() == 1

    @pytest.mark.parametrize("path", ["", "rotate/", "extend/"])
    def test_a_teammate_for_billing_looks_and_changes_nothing(self, client, outsider, api_key, page, path):
        acme = api_key.key.organization
        Membership.objects.filter(user=outsider).update(organization=acme, role=Role.BILLING)
        client.force_login(outsider, backend=BACKEND)

        answer = client.post(page + path, {"name": "mine", "overlap": "3600", "span": "3600"})

        assert answer.status_code == 403
        assert api_key.key.prefix in client.get(page).content.decode()
        api_key.key.refresh_from_db()
        assert (api_key.key.name, APIKey.objects.count()) == ("test", 1)
