"""Work that Tollgate's own tasks left undone: seen by name, done, and gone."""

from datetime import timedelta

import pytest
from django.core import mail

from accounts import clock
from billing.models import Notice, NoticeState, Trial
from billing.stripe.client import get_client
from tests.billing.buying import offer_trial
from tests.billing.cast import deliver, subscribe
from tests.billing.doctoring import found, mend, only
from tests.billing.troubles import move

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


@pytest.fixture
def notice(sandbox, hands, webhook_endpoint, organization, plans) -> Notice:
    """The e-mail that tells Acme that its subscription has ended, not sent yet."""
    subscription = subscribe(sandbox, organization, plan=plans.pro)
    deliver(sandbox)
    Notice.objects.all().delete()  # Of the plan that began.
    get_client().v1.subscriptions.cancel(subscription.id)
    deliver(sandbox)
    return Notice.objects.get(kind="cancelled")


def test_an_e_mail_that_nobody_sent_is_sent(sandbox, hands, notice):
    move(sandbox, hands, HOUR)
    assert found("stuck-notices") == []
    move(sandbox, hands, 2 * HOUR)

    finding = only("stuck-notices")

    assert finding.sentence.startswith("1 e-mails to customers wait to be sent")
    mend(finding)
    assert [message.to for message in mail.outbox] == [["owner@acme.example"]]


def test_an_e_mail_whose_sender_died_is_not_sent_blindly_but_named(sandbox, hands, notice):
    Notice.objects.filter(pk=notice.pk).update(state=NoticeState.SENDING, claimed_at=clock.now())
    move(sandbox, hands, 3 * HOUR)

    mend(only("stuck-notices"))

    assert mail.outbox == []
    finding = only("failed-notices")
    assert finding.sentence == (
        "Acme may not know of “subscription ended”: The sender died while it was sending."
    )


def test_an_e_mail_that_failed_is_named_for_a_week(sandbox, hands, notice):
    assert found("failed-notices") == []
    Notice.objects.filter(pk=notice.pk).update(state=NoticeState.FAILED, error="No such mailbox.")

    finding = only("failed-notices")

    assert (finding.fix, finding.sentence.endswith("No such mailbox.")) == (None, True)
    move(sandbox, hands, 8 * 24 * HOUR)
    assert found("failed-notices") == []


def test_a_mail_server_that_is_down_leaves_the_finding(sandbox, hands, notice, settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9
    move(sandbox, hands, 3 * HOUR)

    finding = only("stuck-notices")
    finding.fix.run()

    # It has its place in the queue again, with what went wrong.
    notice.refresh_from_db()
    assert (notice.state, notice.tries) == (NoticeState.PENDING, 1)
    assert "ConnectionRefusedError" in notice.error


def test_a_refused_trial_that_goes_on_is_ended(sandbox, hands, organization, plans):
    offer_trial(plans.pro)
    subscription = subscribe(sandbox, organization, plan=plans.pro)
    assert subscription.status == "trialing"
    trial = Trial.objects.get(subscription_id=subscription.id)
    Trial.objects.filter(pk=trial.pk).update(outcome="refused", reason="email", settled_at=None)
    assert found("unsettled-trials") == []
    move(sandbox, hands, 3 * HOUR)

    finding = only("unsettled-trials")

    assert finding.sentence == f"The trial {subscription.id} of Acme ought to have been ended by now."
    mend(finding)
    assert sandbox.get("subscription", subscription.id)["status"] == "canceled"
