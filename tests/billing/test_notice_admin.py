"""Staff see every e-mail and what became of it, and may have one sent again."""

import pytest
from django.core import mail
from django.urls import reverse

from billing import delivery
from billing.models import Notice, NoticeKind, NoticeState
from tests.billing.stage import tasks_at_once
from tests.billing.test_policy_admin import staff

pytestmark = pytest.mark.django_db
LIST = reverse("admin:billing_notice_changelist")


@pytest.fixture
def notice(organization) -> Notice:
    """One that may or may not have reached Acme."""
    notice = Notice.objects.create(
        organization=organization, kind=NoticeKind.CANCELLED, key="1", context={"plan_name": "Pro"}
    )
    Notice.objects.update(state=NoticeState.UNSURE, error="The sender died while it was sending.")
    notice.refresh_from_db()
    return notice


def send_again(client, notice):
    chosen = {"action": "send_once_more", "_selected_action": [str(notice.pk)]}
    return client.post(LIST, chosen, follow=True)


def test_the_list_says_what_became_of_each(admin_client, notice):
    page = admin_client.get(LIST).text

    assert "perhaps sent" in page
    assert "The sender died while it was sending." in page
    assert admin_client.get(LIST, {"state": "unsure"}).context["cl"].result_count == 1
    assert admin_client.get(LIST, {"q": "acme"}).context["cl"].result_count == 1


def test_staff_read_what_the_customer_was_told(admin_client, notice):
    delivery.send_again(notice)
    delivery.send(str(notice.pk))

    page = admin_client.get(reverse("admin:billing_notice_change", args=[notice.pk])).text
    assert "Your Pro subscription has ended and will not be renewed." in page
    assert "owner@acme.example" in page


def test_staff_have_one_sent_again(admin_client, notice, django_capture_on_commit_callbacks):
    with tasks_at_once(), django_capture_on_commit_callbacks(execute=True):
        page = send_again(admin_client, notice)

    assert "1 will be sent within a minute" in page.text
    assert [message.subject for message in mail.outbox] == ["Your Pro subscription has ended"]
    notice.refresh_from_db()
    assert (notice.state, notice.repeats) == (NoticeState.SENT, 1)
    history = admin_client.get(reverse("admin:billing_notice_history", args=[notice.pk])).text
    assert "Sent again." in history


def test_what_waits_already_is_not_asked_for_twice(admin_client, notice):
    delivery.send_again(notice)

    assert "1 waits to be sent, or is being sent, already." in send_again(admin_client, notice).text


def test_nothing_of_a_notice_can_be_edited(admin_client, notice):
    page = reverse("admin:billing_notice_change", args=[notice.pk])

    assert admin_client.post(page, {"text": "Another one"}).status_code == 403
    assert admin_client.get(reverse("admin:billing_notice_add")).status_code == 403
    assert (
        admin_client.post(
            reverse("admin:billing_notice_delete", args=[notice.pk]), {"post": "yes"}
        ).status_code
        == 403
    )


def test_who_may_only_look_sends_nothing(notice):
    client = staff("view_notice")
    assert client.get(LIST).status_code == 200

    send_again(client, notice)

    notice.refresh_from_db()
    assert (notice.state, mail.outbox) == (NoticeState.UNSURE, [])


def test_who_may_change_notices_may_send_them(notice):
    send_again(staff("view_notice", "change_notice"), notice)

    notice.refresh_from_db()
    assert notice.repeats == 1
