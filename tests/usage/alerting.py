"""What tests of alerts share."""

from django.core import mail

from billing import delivery
from billing.models import Notice, NoticeKind, NoticeState
from usage.reports import make_reports

KINDS = [NoticeKind.QUOTA_REACHED, NoticeKind.SPEND_REACHED]


def use(acme, units):
    acme.use(units)
    make_reports()


def told(kind=NoticeKind.QUOTA_REACHED):
    """Return the levels of the notices."""
    return sorted(notice.context["level"] for notice in Notice.objects.filter(kind=kind))


def post():
    """Send what is to be sent; return the letters of alerts."""
    before = len(mail.outbox)
    for notice in Notice.objects.filter(kind__in=KINDS, state=NoticeState.PENDING).order_by("created_at"):
        delivery.send(str(notice.pk))
    return mail.outbox[before:]
