from types import SimpleNamespace

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from accounts.models import Organization
from billing.models import Plan


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


@pytest.mark.parametrize("model", ["plan", "meter", "entitlement", "trial"])
def test_staff_see_every_list(admin_client: Client, organization: Organization, model: str) -> None:
    assert admin_client.get(reverse(f"admin:billing_{model}_changelist")).status_code == 200


def test_the_plan_list_shows_prices_and_limits(admin_client: Client, organization: Organization) -> None:
    page = admin_client.get(reverse("admin:billing_plan_changelist")).text

    assert "$29 a month" in page
    assert "10,000 calls" in page
    assert "unlimited calls" in page


def test_staff_change_a_plans_limits_but_not_its_slug(admin_client: Client, plans: SimpleNamespace) -> None:
    fields = plan_fields(plans.pro) | {"rate_per_minute": "120", "slug": "renamed", "is_default": "on"}

    response = admin_client.post(reverse("admin:billing_plan_change", args=[plans.pro.pk]), fields)

    assert response.status_code == 302
    plan = Plan.objects.get(pk=plans.pro.pk)
    assert (plan.slug, plan.rate_per_minute, plan.is_default) == ("pro", 120, False)


def test_zero_is_refused_lest_it_be_meant_for_unlimited(admin_client: Client, plans: SimpleNamespace) -> None:
    fields = plan_fields(plans.pro) | {"quotas-0-included": "0"}

    page = admin_client.post(reverse("admin:billing_plan_change", args=[plans.pro.pk]), fields)

    assert page.status_code == 200
    assert "Use 1 or more" in page.text


@pytest.mark.parametrize("slug", ["free", "team"])
def test_a_plan_that_is_the_default_or_in_use_cannot_be_deleted(
    admin_client: Client, organization: Organization, plans: SimpleNamespace, slug: str
) -> None:
    plan = getattr(plans, slug)
    if not plan.is_default:
        organization.entitlement.plan = plan
        organization.entitlement.save()

    page = reverse("admin:billing_plan_delete", args=[plan.pk])

    assert admin_client.post(page, {"post": "yes"}).status_code == 403
    assert Plan.objects.filter(slug=slug).exists()


def test_an_unused_plan_can_be_deleted(admin_client: Client, plans: SimpleNamespace) -> None:
    admin_client.post(reverse("admin:billing_plan_delete", args=[plans.enterprise.pk]), {"post": "yes"})

    assert not Plan.objects.filter(slug="enterprise").exists()


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


def plan_fields(plan: Plan) -> dict[str, str]:
    """What the plan's form sends when nothing was changed."""
    quota, prices = plan.quotas.get(), list(plan.prices.order_by("pk"))
    fields = {
        "name": plan.name,
        "description": plan.description,
        "rate_per_minute": str(plan.rate_per_minute),
        "order": str(plan.order),
        "is_public": "on",
        "quotas-TOTAL_FORMS": "1",
        "quotas-INITIAL_FORMS": "1",
        "quotas-0-id": str(quota.pk),
        "quotas-0-plan": str(plan.pk),
        "quotas-0-meter": str(quota.meter_id),
        "quotas-0-included": str(quota.included),
        "quotas-0-overage": quota.overage,
        "prices-TOTAL_FORMS": str(len(prices)),
        "prices-INITIAL_FORMS": str(len(prices)),
    }
    for index, price in enumerate(prices):
        fields |= {
            f"prices-{index}-id": str(price.pk),
            f"prices-{index}-plan": str(plan.pk),
            f"prices-{index}-meter": str(price.meter_id or ""),
            f"prices-{index}-interval": price.interval,
            f"prices-{index}-currency": price.currency,
            f"prices-{index}-unit_amount": str(price.unit_amount),
        }
    return fields
