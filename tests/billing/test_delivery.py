"""Sending, through a mail server that takes, refuses, or hangs up."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, connections, transaction

from accounts import clock
from accounts.models import Organization
from billing import delivery
from billing.models import Notice, NoticeKind, NoticeState
from billing.tasks import send_notice, send_notices
from tests.billing.post_office import open_post_office
from tests.billing.stage import tasks_at_once

pytestmark = pytest.mark.django_db
NOON = datetime(2027, 5, 12, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def noon():
    with clock.standing_at(NOON) as hands:
        yield hands


@pytest.fixture
def office(settings):
    with open_post_office() as office:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", office.port
        settings.EMAIL_USE_TLS, settings.EMAIL_HOST_USER, settings.EMAIL_TIMEOUT = False, "", 5
        yield office


def write(organization: Organization, key: str = "1") -> Notice:
    """Write a notice that is true of Acme, which is on Free and owes nothing."""
    return Notice.objects.create(
        organization=organization, kind=NoticeKind.CANCELLED, key=key, context={"plan_name": "Pro"}
    )


def state(notice: Notice) -> str:
    notice.refresh_from_db()
    return notice.state


def test_a_notice_goes_out_once_however_often_it_is_sent(organization, office):
    notice = write(organization)
    for _ in range(3):
        send_notice(str(notice.pk))

    (message,) = office.taken
    assert (message["To"], message["Subject"]) == ("owner@acme.example", "Your Pro subscription has ended")
    assert {part.get_content_type() for part in message.walk()} >= {"text/plain", "text/html"}
    assert state(notice) == NoticeState.SENT
    assert (notice.sent_at, notice.tries, notice.recipient) == (NOON, 1, "owner@acme.example")
    assert "Your Pro subscription has ended" in notice.text


@pytest.mark.django_db(transaction=True)
def test_while_one_sends_another_does_not(organization, office):
    notice = write(organization)
    office.lets_go.clear()

    def send() -> None:
        try:
            send_notice(str(notice.pk))
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as other:
        running = other.submit(send)
        assert office.at_counter.wait(timeout=60)
        assert delivery.send(str(notice.pk)) is None
        office.lets_go.set()
        running.result()

    assert len(office.taken) == 1
    assert state(notice) == NoticeState.SENT


def test_a_mail_server_that_is_away_is_tried_again_later_and_later(organization, office, settings, noon):
    notice = write(organization)
    open_port, settings.EMAIL_PORT = settings.EMAIL_PORT, 1
    assert delivery.send(str(notice.pk)) == NoticeState.PENDING
    notice.refresh_from_db()
    assert (notice.tries, notice.next_try_at) == (1, NOON + MINUTE)
    assert "ConnectionRefusedError" in notice.error
    # Not before its time.
    assert delivery.send(str(notice.pk)) is None

    noon.move(NOON + MINUTE)
    assert delivery.send(str(notice.pk)) == NoticeState.PENDING
    notice.refresh_from_db()
    assert notice.next_try_at == NOON + 6 * MINUTE

    settings.EMAIL_PORT = open_port
    noon.move(NOON + 6 * MINUTE)
    assert delivery.send(str(notice.pk)) == NoticeState.SENT
    assert len(office.taken) == 1


def test_a_refused_e_mail_is_given_up_after_the_last_try_and_shown(organization, office, noon):
    office.refuses = "550 no such mailbox"
    notice = write(organization)
    notice.kind = (
        NoticeKind.PAYMENT_FAILED
    )  # Which holds for as long as something is owed, however long that is.
    notice.save()
    organization.entitlement.status = "past_due"
    organization.entitlement.save()

    for _ in range(len(delivery.BACK_OFF) + 1):
        notice.refresh_from_db()
        noon.move(notice.next_try_at)
        delivery.send(str(notice.pk))

    assert state(notice) == NoticeState.FAILED
    assert "no such mailbox" in notice.error
    assert office.taken == []


def test_a_connection_lost_in_the_middle_leaves_it_open_and_is_not_tried_again(organization, office, noon):
    """The server had the whole text: it may have been delivered."""
    office.hangs_up = True
    notice = write(organization)
    assert delivery.send(str(notice.pk)) == NoticeState.UNSURE

    office.hangs_up = False
    noon.move(NOON + timedelta(hours=5))
    with tasks_at_once():
        send_notices()

    assert office.taken == []
    assert state(notice) == NoticeState.UNSURE


def test_a_sender_that_died_is_shown_to_staff_and_not_repeated(organization, office, noon):
    notice = write(organization)
    assert delivery.claim(str(notice.pk), now=NOON)  # And no word of it any more.

    noon.move(NOON + 9 * MINUTE)
    with tasks_at_once():
        send_notices()
    assert state(notice) == NoticeState.SENDING

    noon.move(NOON + 11 * MINUTE)
    with tasks_at_once():
        send_notices()
    assert state(notice) == NoticeState.UNSURE
    assert "died" in notice.error
    assert office.taken == []


def test_the_sweep_sends_what_a_lost_task_left(organization, office):
    notices = [write(organization, key) for key in "12"]
    with tasks_at_once():
        send_notices()

    assert len(office.taken) == 2
    assert {state(notice) for notice in notices} == {NoticeState.SENT}


def test_a_new_notice_is_sent_once_its_transaction_has_ended(
    organization, office, django_capture_on_commit_callbacks
):
    with tasks_at_once(), django_capture_on_commit_callbacks(execute=True):
        notice = write(organization)
        assert office.taken == []

    assert len(office.taken) == 1
    assert state(notice) == NoticeState.SENT


def test_sent_again_it_goes_out_again_as_another_message(organization, office, noon):
    notice = write(organization)
    delivery.send(str(notice.pk))
    noon.move(NOON + timedelta(days=9))

    assert delivery.send_again(notice)
    assert not delivery.send_again(notice)  # It waits to be sent already.
    delivery.send(str(notice.pk))

    first, second = (message["Message-ID"] for message in office.taken)
    assert first != second
    assert all(str(notice.pk) in each for each in (first, second))


def test_every_try_of_a_message_has_the_same_id(organization, office, noon):
    office.refuses = "451 try later"
    notice = write(organization)
    delivery.send(str(notice.pk))
    notice.refresh_from_db()
    before = delivery.message_id(notice)
    office.refuses = ""
    noon.move(notice.next_try_at)
    delivery.send(str(notice.pk))

    assert office.taken[0]["Message-ID"] == before


def test_what_is_sent_again_is_still_not_said_when_it_is_not_so(organization, office):
    notice = Notice.objects.create(
        organization=organization, kind=NoticeKind.PAYMENT_FAILED, key="1", state=NoticeState.UNSURE
    )
    delivery.send_again(notice)

    assert delivery.send(str(notice.pk)) == NoticeState.OUTDATED
    assert office.taken == []


def test_a_try_that_outlived_its_claim_does_not_overwrite_what_staff_decided(organization, office, noon):
    notice = write(organization)
    claimed = delivery.claim(str(notice.pk), now=NOON)
    noon.move(NOON + 11 * MINUTE)
    delivery.give_up_dead_claims(now=clock.now())
    delivery.send_again(notice)

    assert claimed is not None
    delivery.settle(claimed[0], NoticeState.FAILED, error="late")

    assert state(notice) == NoticeState.PENDING


def test_the_database_refuses_a_second_notice_of_one_occasion(organization):
    write(organization)
    with pytest.raises(IntegrityError, match="notice_once"), transaction.atomic():
        write(organization)
