"""Sending notices: each once, and in doubt not again without a person's word.

A claim is committed before anything goes out, so that of two senders one sends, and a sender that dies
leaves a notice that says so instead of one that looks untouched.
"""

import logging
from datetime import datetime, timedelta
from smtplib import SMTPException, SMTPServerDisconnected
from urllib.parse import urlsplit

from django.conf import settings
from django.core.mail import EmailMultiAlternatives, get_connection
from django.db import transaction

from accounts import clock
from billing.entitlements import current_entitlement
from billing.letters import Letter, write_letter
from billing.models import Notice, NoticeState
from billing.truth import holds

logger = logging.getLogger(__name__)

# Minutes before each further try: a day and a half in all, in which somebody mends the mail server.
BACK_OFF = (1, 5, 15, 60, 180, 360, 720, 720)
# No sender lives this long: the task is killed after five minutes.
CLAIM_ENDS_AFTER = timedelta(minutes=10)


class NotSent(Exception):
    """The mail server did not take the e-mail: nothing has gone out, and trying again is safe."""


class Unsure(Exception):
    """The connection was lost while the e-mail went out: it may have been taken."""


def send(notice_id: str, *, now: datetime | None = None) -> NoticeState | None:
    """Send a notice that is due; return what became of it, None where there was nothing to do.

    Safe to call any number of times, and by several at once.
    """
    now = now or clock.now()
    claimed = claim(notice_id, now=now)
    if claimed is None:
        return None
    notice, letter = claimed
    if letter is None:
        return NoticeState.OUTDATED
    try:
        post(letter, message_id=message_id(notice))
    except NotSent as error:
        return give_back(notice, error=str(error), now=now)
    except Unsure as error:
        return settle(notice, NoticeState.UNSURE, error=str(error))
    return settle(notice, NoticeState.SENT, sent_at=now)


def claim(notice_id: str, *, now: datetime) -> tuple[Notice, Letter | None] | None:
    """Take a due notice and write its letter, or None in its place where it is no longer true."""
    with transaction.atomic():
        due = Notice.objects.due(now).select_for_update(of=("self",), skip_locked=True)
        notice = due.select_related("organization").filter(pk=notice_id).first()
        if notice is None:
            return None
        entitlement = current_entitlement(notice.organization, now=now)
        letter = write_letter(notice, entitlement, now=now) if holds(notice, entitlement, now=now) else None
        if letter is None:
            notice.state = NoticeState.OUTDATED
        else:
            notice.state = NoticeState.SENDING
            notice.recipient, notice.subject, notice.text = (
                letter.recipient,
                letter.subject[:200],
                letter.text,
            )
        notice.claimed_at, notice.tries, notice.error = now, notice.tries + 1, ""
        notice.save()
    return notice, letter


def post(letter: Letter, *, message_id: str) -> None:
    """Hand an e-mail to the mail server. Raises NotSent or Unsure."""
    connection = get_connection()
    try:
        connection.open()
    except (SMTPException, OSError) as error:
        raise NotSent(f"{type(error).__name__}: {error}") from error
    message = EmailMultiAlternatives(
        letter.subject,
        letter.text,
        to=[letter.recipient],
        headers={"Message-ID": message_id, "Auto-Submitted": "auto-generated"},
        connection=connection,
    )
    message.attach_alternative(letter.html, "text/html")
    try:
        message.send()
    except SMTPServerDisconnected as error:
        raise Unsure(f"The connection was lost: {error}") from error
    except SMTPException as error:
        raise NotSent(f"{type(error).__name__}: {error}") from error
    except OSError as error:
        raise Unsure(f"{type(error).__name__}: {error}") from error
    finally:
        connection.close()


def message_id(notice: Notice) -> str:
    """Return the same id for every try, so that a mail program that gets two shows one."""
    host = urlsplit(settings.FRONTEND_URL).hostname
    return f"<notice-{notice.pk}.{notice.repeats}@{host}>"


def give_back(notice: Notice, *, error: str, now: datetime) -> NoticeState:
    """Enter a later try, or give up after the last one."""
    logger.warning("The notice %s was not sent, try %d: %s", notice.pk, notice.tries, error)
    if notice.tries > len(BACK_OFF):
        return settle(notice, NoticeState.FAILED, error=error)
    later = now + timedelta(minutes=BACK_OFF[notice.tries - 1])
    return settle(notice, NoticeState.PENDING, error=error, next_try_at=later)


def settle(
    notice: Notice,
    state: NoticeState,
    *,
    error: str = "",
    sent_at: datetime | None = None,
    next_try_at: datetime | None = None,
) -> NoticeState:
    """Write down how a try ended, unless the claim was taken away meanwhile."""
    changes: dict[str, object] = {"state": state, "error": error[:300], "sent_at": sent_at}
    if next_try_at:
        changes["next_try_at"] = next_try_at
    Notice.objects.filter(pk=notice.pk, state=NoticeState.SENDING, tries=notice.tries).update(**changes)
    return state


def give_up_dead_claims(*, now: datetime) -> int:
    """Show to staff, instead of sending again, what a sender that died had begun. Returns how many there were."""
    dead = Notice.objects.filter(state=NoticeState.SENDING, claimed_at__lt=now - CLAIM_ENDS_AFTER)
    return dead.update(state=NoticeState.UNSURE, error="The sender died while it was sending.")


def send_again(notice: Notice) -> bool:
    """Have a notice sent once more, at staff's wish. False where it waits to be sent or is being sent already."""
    with transaction.atomic():
        row = Notice.objects.select_for_update().get(pk=notice.pk)
        if row.state in {NoticeState.PENDING, NoticeState.SENDING}:
            return False
        row.state, row.tries, row.next_try_at = NoticeState.PENDING, 0, clock.now()
        row.repeats += 1
        row.sent_at, row.error = None, ""
        row.save()
    return True
