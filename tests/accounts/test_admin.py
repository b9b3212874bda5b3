import pytest
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from accounts.models import Organization, Role, User
from apikeys.models import APIKey


@pytest.mark.parametrize(
    "page",
    [
        "index",
        "auth_group_changelist",
        "account_emailaddress_changelist",
        "accounts_organization_changelist",
        "accounts_user_changelist",
        "apikeys_apikey_changelist",
        "usage_usagerollup_changelist",
        "usage_meterreport_changelist",
    ],
)
def test_staff_see_every_page(admin_client: Client, organization: Organization, page: str) -> None:
    assert admin_client.get(reverse(f"admin:{page}")).status_code == 200


def test_staff_sign_in_with_an_email_address(client: Client, admin_user: User) -> None:
    page = reverse("admin:login")
    assert "mail address" in client.get(page).text

    client.post(page, {"username": admin_user.email, "password": "password"})

    assert client.get(reverse("admin:index")).status_code == 200


def test_a_customer_may_not_enter_the_back_office(browser: Client) -> None:
    assert browser.get(reverse("admin:index")).status_code == 302


def test_staff_find_an_organization_by_a_members_address(
    admin_client: Client, organization: Organization, outsider: User
) -> None:
    organization.email = "accounting@elsewhere.example"
    organization.save()

    page = admin_client.get(reverse("admin:accounts_organization_changelist"), {"q": "owner@acme"})

    assert [row.name for row in page.context["cl"].result_list] == ["Acme"]
    assert organization.ref in page.text
    assert "Free" in page.text


def test_the_organization_list_asks_no_more_for_more_rows(
    admin_client: Client, organization: Organization, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(8):
        owner = User.objects.create_user(f"owner{number}@example.com")
        Organization.objects.open(name=f"Company {number}", owner=owner)

    with django_assert_max_num_queries(10):
        admin_client.get(reverse("admin:accounts_organization_changelist"))


def test_staff_change_a_members_role(
    admin_client: Client, organization: Organization, developer: User
) -> None:
    page = reverse("admin:accounts_organization_change", args=[organization.pk])
    memberships = list(organization.memberships.all())
    fields = {
        "name": "Acme Ltd.",
        "email": organization.email,
        "time_zone": "UTC",
        "memberships-TOTAL_FORMS": "2",
        "memberships-INITIAL_FORMS": "2",
    }
    for index, membership in enumerate(memberships):
        fields |= {
            f"memberships-{index}-id": str(membership.pk),
            f"memberships-{index}-organization": str(organization.pk),
            f"memberships-{index}-user": str(membership.user_id),
            f"memberships-{index}-role": Role.ADMIN if membership.user == developer else membership.role,
        }

    assert admin_client.get(page).status_code == 200
    assert admin_client.post(page, fields).status_code == 302

    organization.refresh_from_db()
    assert organization.name == "Acme Ltd."
    assert organization.memberships.get(user=developer).role == Role.ADMIN


@pytest.mark.parametrize("page", ["accounts_organization_add", "apikeys_apikey_add"])
def test_staff_cannot_make_what_only_a_customer_can(admin_client: Client, page: str) -> None:
    assert admin_client.get(reverse(f"admin:{page}")).status_code == 403


def test_an_organization_cannot_be_deleted(admin_client: Client, organization: Organization) -> None:
    page = reverse("admin:accounts_organization_delete", args=[organization.pk])

    assert admin_client.post(page, {"post": "yes"}).status_code == 403
    assert Organization.objects.filter(pk=organization.pk).exists()


def test_staff_add_a_colleague_by_email_address(admin_client: Client) -> None:
    page = reverse("admin:accounts_user_add")
    assert admin_client.get(page).status_code == 200

    password = "correct horse battery"
    response = admin_client.post(
        page,
        {
            "email": "new@tollgate.example",
            "name": "New",
            "usable_password": "true",
            "password1": password,
            "password2": password,
            "memberships-TOTAL_FORMS": "0",
            "memberships-INITIAL_FORMS": "0",
        },
    )

    user = User.objects.get(email="new@tollgate.example")
    assert response.headers["Location"] == reverse("admin:accounts_user_change", args=[user.pk])
    assert user.check_password(password)
    assert not user.is_staff


def test_a_second_user_with_the_same_address_is_refused(admin_client: Client, owner: User) -> None:
    password = "correct horse battery"
    fields = {"usable_password": "true", "password1": password, "password2": password}

    page = admin_client.post(reverse("admin:accounts_user_add"), fields | {"email": owner.email.upper()})

    assert page.status_code == 200
    assert User.objects.filter(email__iexact=owner.email).count() == 1


def test_staff_set_a_users_password(admin_client: Client, organization: Organization, owner: User) -> None:
    change = admin_client.get(reverse("admin:accounts_user_change", args=[owner.pk]))
    assert change.status_code == 200
    assert "Acme" in change.text

    password = "another horse battery"
    admin_client.post(
        reverse("admin:auth_user_password_change", args=[owner.pk]),
        {"usable_password": "true", "password1": password, "password2": password},
    )

    owner.refresh_from_db()
    assert owner.check_password(password)


def test_staff_revoke_a_key(admin_client: Client, organization: Organization) -> None:
    key, secret = APIKey.objects.issue(organization=organization, name="leaked")
    page = reverse("admin:apikeys_apikey_changelist")

    found = admin_client.get(page, {"q": key.prefix})
    assert key.prefix in found.text
    assert secret not in found.text
    admin_client.post(page, {"action": "revoke", "_selected_action": [str(key.pk)]})

    key.refresh_from_db()
    assert not key.is_active


def test_a_key_cannot_be_deleted(admin_client: Client, organization: Organization) -> None:
    key, _ = APIKey.objects.issue(organization=organization, name="kept")

    page = reverse("admin:apikeys_apikey_delete", args=[key.pk])

    assert admin_client.post(page, {"post": "yes"}).status_code == 403
    assert APIKey.objects.filter(pk=key.pk).exists()
