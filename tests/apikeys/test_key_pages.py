import pytest
from redis.exceptions import ConnectionError as Unreachable

from accounts.models import Membership, Role
from apikeys.gate import admit
from apikeys.models import APIKey
from apikeys.secret import digest, parse
from tests.usage.cast import serve

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


def test_the_usage_page_sums_the_period(browser, api_key, drain):
    serve(api_key, calls=4)
    drain.run_once()
    page = browser.get("/dashboard/usage/")

    assert page.context["total_units"] == 4
    days = page.context["days"]
    assert [(day.units, day.bar) for day in days][-1] == (4, 100)
    assert all(day.units == day.bar == 0 for day in days[:-1])
    assert len(days) == days[-1].day.day  # Free counts from the first of the month: every day has its place.


def test_pages_take_the_same_few_queries_however_many_events_there_are(
    browser, api_key, drain, django_assert_max_num_queries
):
    serve(api_key, calls=10)
    drain.run_once()

    for page in ("/dashboard/", "/dashboard/usage/", "/dashboard/billing/", "/dashboard/keys/"):
        with django_assert_max_num_queries(17):
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
