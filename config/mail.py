"""E-mail in development: shown on the console, and kept in `var/mail` where a person can open it."""

from collections.abc import Sequence

from django.core.mail import EmailMessage
from django.core.mail.backends import console, filebased
from django.core.mail.backends.base import BaseEmailBackend


class ConsoleAndFileBackend(BaseEmailBackend):
    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        filebased.EmailBackend(fail_silently=self.fail_silently).send_messages(email_messages)
        return console.EmailBackend(fail_silently=self.fail_silently).send_messages(email_messages) or 0
