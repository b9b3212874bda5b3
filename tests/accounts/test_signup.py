import re

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from redis.exceptions import ConnectionError as Unreachable

from accounts.models import Membership, Organization, Role, User
from billing.models import Entitlement

pytestmark = pytest.mark.django_db

FORM = {"organization": "Acme", "email": "ann@acme.example", "password1": "correct horse battery"}


def sign_up(client, **changes):
    return client.post("/signup/", FORM | changes)


def code_sent() -> str:
    return re.search(r"^\s*([A-Z0-9]{3,}-?[A-Z0-9]{3,})\s*$", mail.outbox[-1].body, re.MULTILINE)[1]


def test_signing_up_makes_a_person_an_organization_and_a_free_plan(plans, client):
    sign_up(client)

    organization = Organization.objects.get()
    assert (organization.name, organization.email) == ("Acme", "ann@acme.example")
    assert Membership.objects.get().get_role() is Role.OWNER
    assert Entitlement.objects.get().plan == plans.free


def test_the_dashboard_opens_once_the_address_is_verified(plans, client):
    sign_up(client)
    assert client.get("/dashboard/").status_code == 302

    page = client.post("/confirm-email/", {"code": code_sent()}, follow=True)

    assert page.redirect_chain[-1][0] == "/dashboard/"
    assert "Free" in page.content.decode()


def test_a_wrong_code_verifies_nothing(plans, client):
    sign_up(client)
    client.post("/confirm-email/", {"code": "AAAAAA"})

    assert client.get("/dashboard/").status_code == 302


def test_signing_up_from_a_plan_leads_to_billing(plans, client):
    client.post("/signup/?next=/dashboard/billing/", FORM | {"next": "/dashboard/billing/"})

    page = client.post("/confirm-email/", {"code": code_sent()}, follow=True)

    assert page.redirect_chain[-1][0] == "/dashboard/billing/"


def test_next_never_leads_off_the_site(plans, client):
    client.post("/signup/", FORM | {"next": "https://evil.example/"})

    page = client.post("/confirm-email/", {"code": code_sent()})

    assert page.url == "/dashboard/"


def test_an_address_in_use_is_not_given_away_and_makes_no_second_account(plans, client, owner):
    page = sign_up(client, email=owner.email.upper())

    assert page.status_code == 302
    assert User.objects.count() == 1
    assert Organization.objects.count() == 0
    assert mail.outbox[0].to == [owner.email.upper()] or mail.outbox[0].to == [owner.email]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"email": "not an address"}, "email"),
        ({"password1": "short"}, "password1"),
        ({"password1": "password1234"}, "password1"),
        ({"organization": ""}, "organization"),
        ({"organization": "x" * 151}, "organization"),
    ],
)
def test_bad_input_names_its_field_and_makes_nothing(plans, client, change, field):
    page = sign_up(client, **change)

    assert page.status_code == 200
    assert field in page.context["form"].errors
    assert User.objects.count() == Organization.objects.count() == 0


def test_a_failure_half_way_leaves_neither_person_nor_organization(plans, client, monkeypatch):
    monkeypatch.setattr("billing.receivers.open_entitlement", lambda organization: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        sign_up(client)

    assert User.objects.count() == Organization.objects.count() == 0


def test_signing_in_and_out(plans, client, owner, organization):
    EmailAddress.objects.create(user=owner, email=owner.email, verified=True, primary=True)
    form = {"login": owner.email.upper(), "password": "correct horse battery"}

    assert client.post("/login/", form, follow=True).redirect_chain[-1][0] == "/dashboard/"
    client.post("/logout/")
    assert client.get("/dashboard/").status_code == 302


def test_with_the_mail_server_down_the_code_can_be_asked_for_again(plans, client, settings, monkeypatch):
    def fail(self, messages):
        raise ConnectionRefusedError

    monkeypatch.setattr("django.core.mail.backends.locmem.EmailBackend.send_messages", fail)
    page = client.post("/signup/", FORM, follow=True)

    assert page.status_code == 200
    assert "could not be sent" in page.content.decode()
    assert Organization.objects.count() == 1


def test_with_redis_out_of_reach_people_can_still_log_in(plans, client, owner, organization, monkeypatch):
    def fail(*args, **kwargs):
        raise Unreachable

    EmailAddress.objects.create(user=owner, email=owner.email, verified=True, primary=True)
    with monkeypatch.context() as patch:
        patch.setattr("redis.Redis.execute_command", fail)
        page = client.post("/login/", {"login": owner.email, "password": "correct horse battery"})

    assert (page.status_code, page.url) == (302, "/dashboard/")
