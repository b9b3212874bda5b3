import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from accounts.models import Membership, Organization, Role, User, validate_time_zone
from accounts.tenancy import SESSION_KEY

pytestmark = pytest.mark.django_db
BACKEND = "allauth.account.auth_backends.AuthenticationBackend"

PAGES = ["/dashboard/", "/dashboard/keys/", "/dashboard/usage/", "/dashboard/billing/"]


@pytest.mark.parametrize("page", PAGES)
def test_a_stranger_is_sent_to_log_in(plans, client, page):
    assert client.get(page).url == f"/login/?next={page}"


@pytest.mark.parametrize("page", PAGES)
def test_an_outsider_sees_their_own_organization_only(client, organization, outsider, page):
    client.force_login(outsider, backend=BACKEND)

    assert client.get(page).context["organization"].name == "Rival"


def test_an_outsider_cannot_choose_an_organization_by_its_id(client, organization, outsider):
    client.force_login(outsider, backend=BACKEND)
    session = client.session
    session[SESSION_KEY] = str(organization.pk)
    session.save()

    assert client.get("/dashboard/").context["organization"].name == "Rival"


def test_who_belongs_to_two_organizations_can_choose(client, organization, outsider):
    Membership.objects.create(organization=organization, user=outsider, role=Role.DEVELOPER)
    client.force_login(outsider, backend=BACKEND)
    session = client.session
    session[SESSION_KEY] = str(organization.pk)
    session.save()

    assert client.get("/dashboard/").context["organization"].name == "Acme"


def test_staff_without_an_organization_land_in_the_back_office(plans, client):
    client.force_login(User.objects.create_superuser("staff@tollgate.example", "pw"), backend=BACKEND)

    assert client.get("/dashboard/").url == "/admin/"


def test_a_person_without_an_organization_is_told_so(plans, client):
    client.force_login(User.objects.create_user("lost@acme.example", "pw"), backend=BACKEND)

    assert client.get("/dashboard/").status_code == 403


def test_addresses_that_differ_in_case_only_are_one_person(owner):
    with pytest.raises(IntegrityError), transaction.atomic():
        User.objects.create_user("OWNER@acme.example", "pw")


def test_a_ref_is_ten_base62_characters(organization, outsider):
    refs = set(Organization.objects.values_list("ref", flat=True))

    assert len(refs) == 2
    assert all(len(ref) == 10 and ref.isascii() and ref.isalnum() for ref in refs)


def test_a_time_zone_must_exist():
    validate_time_zone("Europe/Berlin")
    with pytest.raises(ValidationError, match="Mars/Olympus"):
        validate_time_zone("Mars/Olympus")


@pytest.mark.parametrize(
    ("role", "billing", "keys"),
    [
        (Role.OWNER, True, True),
        (Role.ADMIN, True, True),
        (Role.BILLING, True, False),
        (Role.DEVELOPER, False, True),
    ],
)
def test_what_each_role_may_do(role, billing, keys):
    assert (role.manages_billing, role.manages_keys) == (billing, keys)
