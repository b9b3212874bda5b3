"""Logs and error reports without API keys.

Django hides what is named like a secret, and in debug mode nothing of a frame's variables. A key is known by
its form, so it is taken out wherever it stands.
"""

import logging
from collections.abc import ItemsView
from types import FrameType
from typing import Any

from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.views import debug

from apikeys.redaction import redact


class Formatter(logging.Formatter):
    """Writes a log line, its traceback included, with no key in full."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


class ExceptionReporterFilter(debug.SafeExceptionReporterFilter):
    def get_traceback_frame_variables(
        self, request: HttpRequest | None, tb_frame: FrameType
    ) -> ItemsView[str, Any]:
        variables = super().get_traceback_frame_variables(request, tb_frame)
        return {name: without_keys(value) for name, value in variables}.items()


class ExceptionReporter(debug.ExceptionReporter):
    def get_traceback_html(self) -> SafeString:
        return SafeString(redact(super().get_traceback_html()))

    def get_traceback_text(self) -> SafeString:
        return SafeString(redact(super().get_traceback_text()))


def without_keys(value: Any) -> Any:
    """Return a variable as it is, or, where a key is in it, its text without the key.

    Before it is laid out: bytes are broken over lines, at any place.
    """
    try:
        text = repr(value)
    except Exception:  # Anything may happen in a stranger's repr; the report says so by itself.
        return value
    redacted = redact(text)
    return value if redacted == text else redacted
