"""Staff find keys and revoke them; they make none, change none and see none in full."""

import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.urls import reverse
from redis.exceptions import ConnectionError as Unreachable

from accounts import clock
from accounts.models import User
from apikeys.gate import admit
from apikeys.models import APIKey

pytestmark = pytest.mark.django_db
LIST = reverse("admin:apikeys_apikey_changelist")


def names(page) -> set[str]:
    return {key.name for key in page.context["cl"].result_list}


@pytest.fixture
def cast(organization):
    """A key of each kind."""
    made = {}
    for name, mode in (("live", "live"), ("ci", "test"), ("gone", "live"), ("over", "live"), ("old", "live")):
        made[name], _ = APIKey.objects.issue(organization=organization, name=name, mode=mode)
    made["gone"].revoke()
    APIKey.objects.filter(name="over").update(expires_at=clock.now())
    APIKey.objects.filter(name="old").update(
        replaced_by=made["live"], expires_at=clock.now() + timedelta(hours=1)
    )
    return made


def test_a_key_is_found_by_its_first_characters(admin_client, api_key):
    assert names(admin_client.get(LIST, {"q": api_key.key.prefix})) == {"test"}
    assert names(admin_client.get(LIST, {"q": "sk_live_zzzz"})) == set()


@pytest.mark.parametrize("around", ["{}", " {} ", "Bearer {}"])
def test_a_whole_key_in_the_search_is_cut_and_said(admin_client, api_key, around):
    answer = admin_client.get(LIST, {"q": around.format(api_key.secret), "mode__exact": "live"})

    assert answer.status_code == 302
    assert api_key.secret[:21] not in answer.url
    page = admin_client.get(answer.url)
    assert "That was a whole key" in page.content.decode()
    assert api_key.secret[:21] not in page.content.decode()


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"status": "active"}, {"live", "ci"}),
        ({"status": "replaced"}, {"old"}),
        ({"status": "expired"}, {"over"}),
        ({"status": "revoked"}, {"gone"}),
        ({"mode__exact": "test"}, {"ci"}),
        ({"revoked_for__exact": "customer"}, {"gone"}),
    ],
)
def test_keys_are_filtered(admin_client, cast, query, found):
    assert names(admin_client.get(LIST, query)) == found


def test_staff_revoke_and_the_key_says_so(admin_client, api_key):
    admin_client.post(LIST, {"action": "revoke", "_selected_action": [str(api_key.key.pk)]})

    api_key.key.refresh_from_db()
    assert api_key.key.revoked_for == APIKey.RevokedFor.STAFF
    assert not admit(api_key.secret).admitted


def test_staff_make_none_and_change_none(admin_client, api_key):
    change = reverse("admin:apikeys_apikey_change", args=[api_key.key.pk])

    assert admin_client.get(reverse("admin:apikeys_apikey_add")).status_code == 403
    admin_client.post(change, {"name": "renamed", "scopes": "[]", "digest": "0" * 64, "prefix": "sk"})
    page = admin_client.get(change).content.decode()

    before = (api_key.key.name, api_key.key.digest)
    api_key.key.refresh_from_db()
    assert (api_key.key.name, api_key.key.digest) == before
    assert api_key.key.digest not in page
    assert api_key.secret[:21] not in page


def page_of(key: APIKey) -> str:
    return reverse("admin:apikeys_apikey_change", args=[key.pk])


def revoke_page(admin_client, key: APIKey) -> str:
    """Return where the key's own page leads to have it revoked."""
    page = admin_client.get(page_of(key)).content.decode()
    (address,) = set(re.findall(r'href="([^"]*/revoke[^"]*)"', page))
    return address


def test_a_key_s_page_has_nothing_to_save(admin_client, api_key):
    page = admin_client.get(page_of(api_key.key)).content.decode()

    assert api_key.key.prefix in page
    assert 'name="_save"' not in page
    assert 'name="_continue"' not in page


def test_staff_revoke_on_the_key_s_page_by_a_post_that_is_logged(admin_client, api_key):
    address = revoke_page(admin_client, api_key.key)
    asked = admin_client.get(address)
    assert "Revoke now" in asked.content.decode()
    assert admit(api_key.secret).admitted

    answer = admin_client.post(address, follow=True)

    assert answer.redirect_chain == [(page_of(api_key.key), 302)]
    assert "is revoked." in answer.content.decode()
    api_key.key.refresh_from_db()
    assert api_key.key.revoked_for == APIKey.RevokedFor.STAFF
    assert not admit(api_key.secret).admitted
    entry = LogEntry.objects.get(object_id=str(api_key.key.pk))
    assert entry.change_message == "Revoked"


def test_a_key_that_is_over_is_not_revoked_again(admin_client, cast):
    address = revoke_page(admin_client, cast["gone"])

    assert "is over already" in admin_client.post(address, follow=True).content.decode()
    cast["gone"].refresh_from_db()
    assert cast["gone"].revoked_for == APIKey.RevokedFor.CUSTOMER


def test_with_redis_out_of_reach_a_key_is_not_called_revoked(admin_client, api_key, monkeypatch):
    def fail(ref: str) -> None:
        raise Unreachable

    address = revoke_page(admin_client, api_key.key)
    monkeypatch.setattr("apikeys.receivers.cache.drop", fail)

    assert "is not revoked yet" in admin_client.post(address, follow=True).content.decode()
    assert APIKey.objects.get(pk=api_key.key.pk).is_active


def test_who_may_only_look_revokes_nothing(client, admin_client, api_key):
    address = revoke_page(admin_client, api_key.key)
    looker = User.objects.create_user("looker@tollgate.example", "correct horse battery", is_staff=True)
    looker.user_permissions.add(
        Permission.objects.get(content_type__app_label="apikeys", codename="view_apikey")
    )
    client.force_login(looker, backend="allauth.account.auth_backends.AuthenticationBackend")

    page = client.get(page_of(api_key.key))

    assert (page.status_code, address in page.content.decode()) == (200, False)
    assert client.post(address).status_code in {302, 403}
    client.post(LIST, {"action": "revoke", "_selected_action": [str(api_key.key.pk)]})
    assert APIKey.objects.get(pk=api_key.key.pk).is_active
