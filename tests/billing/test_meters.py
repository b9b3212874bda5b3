"""Meters in the back office: made, changed while nothing refers to them, published, never lost sight of."""

import pytest
from django.urls import reverse

from accounts import clock
from billing.entitlements import refresh_entitlement
from billing.models import Entitlement, Meter, PlanOverride, PlanQuota, QuotaOverride
from tests.billing.staffing import said, staff
from tests.usage.cast import make_event
from usage.ledger import store

pytestmark = pytest.mark.django_db


@pytest.fixture
def tokens(plans):
    return Meter.objects.create(slug="tokens", name="Tokens", unit="token")


def page(meter, name="change"):
    return reverse(f"admin:billing_meter_{name}", args=[meter.pk])


def fields(**changes):
    return {"name": "Tokens", "slug": "tokens", "unit": "token", "aggregation": "sum"} | changes


def errors(response):
    return {name: list(found) for name, found in response.context["adminform"].form.errors.items()}


def read_only(client, meter):
    form = client.get(page(meter)).context["adminform"].form
    return {"slug", "aggregation"} - set(form.fields)


@pytest.mark.parametrize("aggregation", ["sum", "count", "max", "unique"])
def test_staff_make_a_meter_of_each_kind(admin_client, aggregation):
    response = admin_client.post(reverse("admin:billing_meter_add"), fields(aggregation=aggregation))

    assert response.status_code == 302
    meter = Meter.objects.get()
    assert (meter.slug, meter.name, meter.unit, meter.aggregation) == (
        "tokens",
        "Tokens",
        "token",
        aggregation,
    )


@pytest.mark.parametrize(
    ("changes", "name", "sentence"),
    [
        ({"slug": "Two words"}, "slug", "Use small letters, digits and _, starting with a letter."),
        ({"slug": "requests"}, "slug", "There is a meter with this slug already."),
        ({"slug": ""}, "slug", "This field is required."),
        ({"name": ""}, "name", "This field is required."),
        ({"unit": ""}, "unit", "This field is required."),
        (
            {"aggregation": "last"},
            "aggregation",
            "Select a valid choice. last is not one of the available choices.",
        ),
    ],
)
def test_what_cannot_be_a_meter_is_refused_in_a_sentence(admin_client, plans, changes, name, sentence):
    response = admin_client.post(reverse("admin:billing_meter_add"), fields(**changes))

    assert errors(response) == {name: [sentence]}


@pytest.mark.parametrize("pk", ["²", "x", "9" * 30, "\u0663"])
def test_a_meter_that_there_is_not_is_not_deleted(admin_client, plans, pk):
    # As Django's admin answers: back to its index, with a message.
    assert admin_client.get(f"/admin/billing/meter/{pk}/delete/").status_code == 302


def test_while_nothing_refers_to_it_all_of_a_meter_may_be_changed(admin_client, tokens):
    assert read_only(admin_client, tokens) == set()

    admin_client.post(page(tokens), fields(slug="words", aggregation="unique", name="Words"))

    tokens.refresh_from_db()
    assert (tokens.slug, tokens.aggregation, tokens.name) == ("words", "unique", "Words")


def included(meter, organization):
    PlanQuota.objects.create(plan=organization.entitlement.plan, meter=meter, included=10)


def published(meter, organization):
    Meter.objects.filter(pk=meter.pk).update(stripe_meter_id="mtr_123")


def overridden(meter, organization):
    override = PlanOverride.objects.create(organization=organization, reason="A favour")
    QuotaOverride.objects.create(override=override, meter=meter, included=10)


def counted(meter, organization):
    store([make_event(organization_id=organization.pk, at=clock.now(), meter=meter.slug)])


def entitled(meter, organization):
    Entitlement.objects.update(quotas={meter.slug: {"included": 1, "overage": "block"}})


REFERENCES = [
    (included, "Free includes it. Take it out first."),
    (published, "it is published, and Stripe keeps its meter mtr_123 for good."),
    (overridden, "1 override is giving a quota of it. Take it out first."),
    (counted, "usage was counted by it."),
    (entitled, "organizations have a quota of it still, which is gone within the hour."),
]


@pytest.mark.parametrize(("refer", "reason"), REFERENCES)
def test_what_others_know_a_meter_by_stays_once_something_refers_to_it(
    admin_client, tokens, organization, refer, reason
):
    refer(tokens, organization)

    assert read_only(admin_client, tokens) == {"slug", "aggregation"}
    assert f"Slug and aggregation stay as they are: {reason}" in admin_client.get(page(tokens)).text
    assert (
        admin_client.post(page(tokens), fields(slug="words", aggregation="max", name="Words")).status_code
        == 302
    )
    tokens.refresh_from_db()
    assert (tokens.slug, tokens.aggregation, tokens.name) == ("tokens", "sum", "Words")


@pytest.mark.parametrize(("refer", "reason"), REFERENCES)
def test_a_meter_that_something_refers_to_cannot_be_deleted(
    admin_client, tokens, organization, refer, reason
):
    refer(tokens, organization)

    response = admin_client.post(page(tokens, "delete"), {"post": "yes"}, follow=True)

    assert said(response) == f"Tokens cannot be deleted: {reason}"
    assert Meter.objects.filter(pk=tokens.pk).exists()


def test_a_change_is_refused_where_something_came_to_refer_to_it_meanwhile(
    admin_client, tokens, organization, monkeypatch
):
    """The page was made while it was free; the check with its row locked decides."""
    included(tokens, organization)
    monkeypatch.setattr("billing.admin.meters.reason_of", lambda meter, why: "")

    response = admin_client.post(page(tokens), fields(aggregation="max"))

    assert errors(response) == {
        "aggregation": ["Slug and aggregation stay as they are: Free includes it. Take it out first."]
    }


def test_a_meter_that_nothing_refers_to_is_deleted(admin_client, tokens):
    admin_client.post(page(tokens, "delete"), {"post": "yes"})

    assert not Meter.objects.filter(pk=tokens.pk).exists()


def test_many_at_once_are_never_deleted(admin_client, tokens):
    admin_client.post(
        reverse("admin:billing_meter_changelist"),
        {"action": "delete_selected", "_selected_action": [tokens.pk]},
    )

    assert Meter.objects.filter(pk=tokens.pk).exists()


@pytest.mark.parametrize("aggregation", ["sum", "count", "max", "unique"])
def test_at_stripe_a_meter_of_each_kind_is_a_sum(admin_client, sandbox, tokens, aggregation):
    """What each event adds is reported: Stripe adds up."""
    Meter.objects.filter(pk=tokens.pk).update(aggregation=aggregation)
    listed = admin_client.get(page(tokens, "publish"))
    assert "Create the meter Tokens, which counts tokens." in listed.text

    admin_client.post(page(tokens, "publish"), {"digest": listed.context["publication"].digest})

    meter = next(iter(sandbox.every("billing.meter")))
    assert (meter["event_name"], meter["default_aggregation"]) == ("tollgate_tokens", {"formula": "sum"})
    tokens.refresh_from_db()
    assert tokens.stripe_meter_id == meter["id"]
    assert "Published. Create the meter" in admin_client.get(page(tokens, "history")).text
    assert "there is nothing to publish" in admin_client.get(page(tokens, "publish")).text


def test_publishing_takes_the_permission_to_change(tokens, sandbox):
    assert staff("view_meter").get(page(tokens, "publish")).status_code == 403
    assert staff("change_meter").get(page(tokens, "publish")).status_code == 200
    assert (
        staff("change_meter").get(reverse("admin:billing_meter_publish", args=[999_999])).status_code == 404
    )


def test_the_list_tells_what_counts_it_and_who_includes_it(admin_client, tokens, organization):
    Meter.objects.filter(pk=tokens.pk).update(aggregation="max")
    included(tokens, organization)
    refresh_entitlement(organization)

    text = admin_client.get(reverse("admin:billing_meter_changelist")).text
    assert "events alone" in text
    assert "Not published yet" in text
    assert "Free, Pro, Team, Enterprise" in text
