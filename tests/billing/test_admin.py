import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from accounts.models import Organization


@pytest.mark.parametrize(
    "path",
    [
        "/admin/djstripe/",
        "/admin/djstripe/subscription/",
        "/admin/djstripe/subscription/action/_cancel/subscription/",
    ],
)
@pytest.mark.parametrize("method", ["get", "post"])
def test_the_back_office_has_no_page_of_dj_stripes(admin_client: Client, path: str, method: str) -> None:
    assert getattr(admin_client, method)(path).status_code == 404


def test_no_dj_stripe_model_is_registered() -> None:
    assert not [model for model in admin.site._registry if model._meta.app_label == "djstripe"]


@pytest.mark.parametrize("model", ["plan", "meter", "entitlement", "trial", "pricemove"])
def test_staff_see_every_list(admin_client: Client, organization: Organization, model: str) -> None:
    assert admin_client.get(reverse(f"admin:billing_{model}_changelist")).status_code == 200


def test_the_plan_list_shows_prices_and_limits(admin_client: Client, organization: Organization) -> None:
    page = admin_client.get(reverse("admin:billing_plan_changelist")).text

    assert "$29 a month" in page
    assert "10,000 calls" in page
    assert "unlimited calls" in page


def test_an_entitlement_is_shown_but_never_edited(admin_client: Client, organization: Organization) -> None:
    page = reverse("admin:billing_entitlement_change", args=[organization.pk])

    assert "Free" in admin_client.get(page).text
    assert admin_client.post(page, {"status": "active"}).status_code == 403
    assert admin_client.get(reverse("admin:billing_entitlement_add")).status_code == 403


@pytest.mark.parametrize("words", ["acme", "owner@acme.example"])
def test_staff_find_an_entitlement_by_its_organization(
    admin_client: Client, organization: Organization, words: str
) -> None:
    page = admin_client.get(reverse("admin:billing_entitlement_changelist"), {"q": words})

    assert page.context["cl"].result_count == 1
