"""Staff edit the status policy, and it acts on whom it concerns."""

import re
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from accounts.models import User
from apikeys.gate import admit
from apikeys.models import APIKey
from billing.models import Access, StatusPolicy
from billing.seeds import POLICIES
from billing.stripe.client import get_client
from tests.billing.stage import BAD_CARD, DAY, HOUR, Stage, open_stage, tasks_at_once

pytestmark = pytest.mark.django_db
LIST = reverse("admin:billing_statuspolicy_changelist")
ADD = reverse("admin:billing_statuspolicy_add")


@pytest.fixture
def stage(sandbox, webhook_endpoint, plans, owner):
    with open_stage(sandbox, owner) as stage:
        yield stage


@pytest.fixture
def overdue(stage, plans) -> Stage:
    """Acme on Pro, whose renewal failed two days ago."""
    stage.subscribe(plans.pro)
    stage.use_card(BAD_CARD)
    stage.go(stage.entitlement.period_end + HOUR)
    stage.go(2 * DAY)
    return stage


def row(status: str, day: int = 0) -> StatusPolicy:
    return StatusPolicy.objects.get(status=status, from_day=day)


def fields_of(policy: StatusPolicy, **changes: Any) -> dict[str, Any]:
    fields = {
        "status": policy.status,
        "from_day": policy.from_day,
        "access": policy.access,
        "banner": policy.banner,
    } | changes
    return fields | ({"sends_email": "on"} if policy.sends_email else {})


def change(policy: StatusPolicy) -> str:
    return reverse("admin:billing_statuspolicy_change", args=[policy.pk])


def staff(*permissions: str) -> Client:
    """A client of somebody on the staff who may do just this."""
    user = User.objects.create_user("staff@tollgate.example", "correct horse battery", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user, backend="allauth.account.auth_backends.AuthenticationBackend")
    return client


def test_the_list_reads_from_good_to_bad_and_from_day_to_day(admin_client, plans):
    rows = admin_client.get(LIST).context["cl"].result_list

    assert [(each.status, each.from_day) for each in rows] == [(status, day) for status, day, *_ in POLICIES]


def test_the_list_says_how_many_are_in_each_status_and_on_each_row(admin_client, overdue):
    rows = {
        (each.status, each.from_day): (each.in_status, each.on_row)
        for each in admin_client.get(LIST).context["cl"].result_list
    }

    assert rows["past_due", 0] == (1, 1)
    assert rows["past_due", 7] == (1, 0)
    assert rows["active", 0] == (0, 0)


def test_the_form_says_whom_a_change_would_concern(admin_client, overdue):
    page = admin_client.get(change(row("past_due", 7))).text
    assert "1 organization is past due now. This row applies to 0 of them." in page
    assert "1 organization is past due" in admin_client.get(ADD).text


def test_a_changed_policy_reaches_those_it_concerns_by_their_next_call(
    admin_client, overdue, django_capture_on_commit_callbacks
):
    _, secret = APIKey.objects.issue(organization=overdue.organization, name="test")
    assert admit(secret).rate_limit == 100
    later = row("past_due", 7)

    with tasks_at_once(), django_capture_on_commit_callbacks(execute=True):
        answer = admin_client.post(change(later), fields_of(later, from_day=2), follow=True)

    assert "1 organization is past due: their access follows the policy within moments." in answer.text
    assert admit(secret).rate_limit == 10


def test_a_new_row_and_a_deleted_one_act_too(admin_client, overdue, django_capture_on_commit_callbacks):
    new = {"status": "past_due", "from_day": 1, "access": Access.NONE, "banner": "Pay, please."}
    with tasks_at_once(), django_capture_on_commit_callbacks(execute=True):
        assert admin_client.post(ADD, new).status_code == 302
    assert (overdue.entitlement.access, overdue.entitlement.banner) == (Access.NONE, "Pay, please.")

    page = reverse("admin:billing_statuspolicy_delete", args=[row("past_due", 1).pk])
    with tasks_at_once(), django_capture_on_commit_callbacks(execute=True):
        assert admin_client.post(page, {"post": "yes"}).status_code == 302
    assert overdue.entitlement.access == Access.FULL


def test_one_that_is_passed_over_until_now_is_reached_too(
    admin_client, stage, plans, django_capture_on_commit_callbacks
):
    """An incomplete purchase leaves things as they were, until the policy says otherwise."""
    get_client().v1.subscriptions.cancel(stage.subscribe(plans.pro))
    stage.subscribe(plans.pro, payment_behavior="default_incomplete")
    assert stage.entitlement.status == "canceled"
    only = row("incomplete")

    with tasks_at_once(), django_capture_on_commit_callbacks(execute=True):
        admin_client.post(change(only), fields_of(only, access=Access.NONE))

    assert stage.entitlement.access == Access.NONE


@pytest.mark.parametrize("status", sorted({status for status, *_ in POLICIES}))
def test_the_first_row_of_a_status_can_neither_be_deleted_nor_moved(admin_client, plans, status):
    first = row(status)

    page = reverse("admin:billing_statuspolicy_delete", args=[first.pk])
    assert admin_client.post(page, {"post": "yes"}).status_code == 403
    admin_client.post(change(first), fields_of(first, from_day=5, status="unpaid"))

    assert row(status) == first


def test_rows_are_not_deleted_many_at_once(admin_client, plans):
    ids = list(StatusPolicy.objects.values_list("pk", flat=True))
    admin_client.post(LIST, {"action": "delete_selected", "_selected_action": ids, "post": "yes"})

    assert StatusPolicy.objects.count() == len(ids)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {"status": "past_due", "from_day": 7, "access": "none"},
            "There is a rule for this status and day already.",
        ),
        ({"status": "unpaid", "from_day": 9, "access": "unchanged"}, "Only an incomplete subscription"),
        ({"status": "active", "from_day": 9, "access": "limited"}, "An active subscription is paid for"),
        (
            {"status": "unpaid", "from_day": 9, "access": "none", "banner": "Dear {name}, pay."},
            "“{name}” stands for nothing: only {plan} and {limits} are replaced.",
        ),
        ({"status": "unpaid", "from_day": -1, "access": "none"}, "greater than or equal to 0"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_with_a_sentence(admin_client, plans, fields, sentence):
    before = StatusPolicy.objects.count()

    page = admin_client.post(ADD, {"banner": ""} | fields)

    assert page.status_code == 200
    assert sentence in re.sub(r"\s+", " ", page.text)
    assert StatusPolicy.objects.count() == before


def test_who_may_only_look_changes_nothing(plans):
    client = staff("view_statuspolicy")
    only = row("past_due", 7)

    assert client.get(LIST).status_code == 200
    assert client.post(change(only), fields_of(only, from_day=1)).status_code == 403
    assert client.post(ADD, fields_of(only, from_day=3)).status_code == 403


def test_who_has_no_permission_sees_nothing(plans):
    assert staff().get(LIST).status_code == 403


def test_what_is_changed_is_in_the_history(admin_client, plans):
    later = row("past_due", 7)
    admin_client.post(change(later), fields_of(later, from_day=9))

    page = admin_client.get(reverse("admin:billing_statuspolicy_history", args=[later.pk])).text
    assert "Changed From day" in page
