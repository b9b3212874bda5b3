"""Leaked keys: whoever holds one can have it revoked, and its organization is told by e-mail, once."""

import logging
from datetime import timedelta
from email.utils import parseaddr
from functools import partial
from urllib.parse import urljoin, urlsplit
from zoneinfo import ZoneInfo

from celery import shared_task
from django.conf import settings
from django.db import transaction
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone

from accounts import clock
from accounts.models import Membership, Role
from apikeys.models import APIKey
from apikeys.secret import parse_all
from billing.delivery import NotSent, Unsure, post
from billing.letters import Action, Letter
from billing.tasks import enqueue
from usage.redis_client import get_redis

logger = logging.getLogger(__name__)

# A letter that has not gone out by then is no news any more; the log has said each minute that it could not be sent.
TOLD_WITHIN = timedelta(days=3)
FOLDER = "apikeys/email/"


def revoke_leaked(text: str) -> int:
    """Revoke each key in the text; return how many that were in use. Only the log is told of the number.

    What was revoked before, has expired or never was a key changes nothing. Raises RedisError where revoking is
    not possible now, whatever the text holds: the answer must not tell a real key from an invented one.
    """
    get_redis().ping()
    revoked = 0
    digests = {parsed.digest for parsed in parse_all(text)}
    for key in APIKey.objects.active().select_related("organization").filter(digest__in=digests):
        revoked += report_leak(key)
    return revoked


def report_leak(key: APIKey) -> bool:
    """Revoke a key that somebody found, and have its organization told; False where it was revoked before."""
    with transaction.atomic():
        is_news = key.revoke(revoked_for=APIKey.RevokedFor.LEAK)
        if is_news:
            transaction.on_commit(partial(enqueue, tell_of_leak, str(key.pk)))
    if is_news:
        logger.warning("The key %s was reported as leaked and is revoked", key.prefix)
    return is_news


@shared_task
def tell_of_leak(key_id: str) -> int:
    """Tell an organization of its leaked key. Safe to run twice."""
    return tell(key_id)


def untold_keys() -> list[str]:
    """Return the ids of revoked keys whose organization has not been told."""
    rows = APIKey.objects.filter(
        revoked_for=APIKey.RevokedFor.LEAK, leak_told_at=None, revoked_at__gt=clock.now() - TOLD_WITHIN
    )
    return [str(pk) for pk in rows.values_list("pk", flat=True)]


def tell(key_id: str) -> int:
    """Send the letter about a leaked key to each owner and admin; return to how many.

    The claim is committed before anything goes out: of two senders one sends. It is given back where nothing
    has gone out, and the sweep tries again.
    """
    claim = APIKey.objects.filter(pk=key_id, revoked_for=APIKey.RevokedFor.LEAK, leak_told_at=None)
    if not claim.update(leak_told_at=clock.now()):
        return 0
    key = APIKey.objects.select_related("organization").get(pk=key_id)
    letters = write_letters(key)
    sent = 0
    for number, letter in enumerate(letters):
        try:
            post(letter, message_id=f"<leak-{key.pk}.{number}@{urlsplit(settings.FRONTEND_URL).hostname}>")
        except (NotSent, Unsure) as error:
            logger.warning("One of %d was not told that %s has leaked: %s", len(letters), key.prefix, error)
            sent += isinstance(error, Unsure)  # Perhaps it went out.
        else:
            sent += 1
    if letters and not sent:
        APIKey.objects.filter(pk=key_id).update(leak_told_at=None)
    return sent


def write_letters(key: APIKey) -> list[Letter]:
    """Return the e-mail for each owner and admin. It names the key by name and first characters alone."""
    organization = key.organization
    members = Membership.objects.filter(organization=organization, role__in=[Role.OWNER, Role.ADMIN])
    addresses = members.filter(user__is_active=True).values_list("user__email", flat=True)
    sender, _ = parseaddr(settings.DEFAULT_FROM_EMAIL)
    with timezone.override(ZoneInfo(organization.time_zone)):
        context = {
            "key": key,
            "organization": organization,
            "sender": sender or "Tollgate",
            "action": Action("Open your API keys", urljoin(f"{settings.FRONTEND_URL}/", reverse("keys"))),
        }
        subject = " ".join(render_to_string(f"{FOLDER}leaked_subject.txt", context).split())
        context["subject"] = subject
        text = render_to_string(f"{FOLDER}leaked.txt", context).strip()
        html = render_to_string(f"{FOLDER}leaked.html", context)
    return [Letter(recipient=address, subject=subject, text=text, html=html) for address in addresses]
