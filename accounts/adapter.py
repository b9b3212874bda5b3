import logging
from smtplib import SMTPException

from allauth.account.adapter import DefaultAccountAdapter
from django.contrib import messages
from django.http import HttpRequest

from accounts.addresses import client_address

logger = logging.getLogger(__name__)


class AccountAdapter(DefaultAccountAdapter):
    def send_mail(self, template_prefix: str, email: str, context: dict[str, object]) -> None:
        """Send, or say on the page that it failed: the account is there by then, and the page can send again."""
        try:
            super().send_mail(template_prefix, email, context)
        except (SMTPException, OSError):
            logger.exception("An e-mail (%s) could not be sent", template_prefix)
            messages.error(
                self.request, "The e-mail could not be sent just now. Please ask for it again in a moment."
            )

    def get_client_ip(self, request: HttpRequest) -> str:
        """Return by what allauth's own limits count: the same address as ours, so that neither is evaded."""
        return client_address(request)
