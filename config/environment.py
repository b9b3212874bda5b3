"""Read environment variables; refuse a bad or missing one by its name."""

import os
import re
from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

from django.core.exceptions import ImproperlyConfigured

TRUE = {"1", "true", "yes", "on"}
FALSE = {"0", "false", "no", "off"}


class Environment:
    """Typed look-ups in a mapping of strings. An empty value counts as unset.

    Every method raises ImproperlyConfigured with one sentence that names the variable;
    a value is never repeated in it, because it may be a secret.
    """

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self.values = os.environ if values is None else values

    def find(self, name: str) -> str | None:
        return self.values.get(name, "").strip() or None

    def text(self, name: str, *, default: str | None = None, needed_for: str = "") -> str:
        """Return the value or `default`; with neither, raise and say what the variable is `needed_for`."""
        value = self.find(name)
        if value is not None:
            return value
        if default is None:
            raise ImproperlyConfigured(f"{name} is not set: {needed_for}.")
        return default

    def boolean(self, name: str, *, default: bool) -> bool:
        value = self.find(name)
        if value is None:
            return default
        if value.lower() in TRUE:
            return True
        if value.lower() in FALSE:
            return False
        raise ImproperlyConfigured(f"{name} must be 1 or 0 (or true or false).")

    def integer(self, name: str, *, default: int, at_least: int = 0, at_most: int | None = None) -> int:
        value = self.find(name)
        if value is None:
            return default
        most = 999_999_999 if at_most is None else at_most
        if not re.fullmatch(r"\d{1,9}", value, re.ASCII) or not at_least <= int(value) <= most:
            limits = f", {at_least} or more" if at_most is None else f" from {at_least} to {at_most}"
            raise ImproperlyConfigured(f"{name} must be a whole number{limits}.")
        return int(value)

    def words(self, name: str, *, default: list[str], regex: str = ".+", form: str = "") -> list[str]:
        """Return a comma-separated list, each of which matches `regex` entirely; `form` says in words what that is."""
        value = self.find(name)
        if value is None:
            return default
        words = [word.strip() for word in value.split(",") if word.strip()]
        if not all(re.fullmatch(regex, word, re.ASCII) for word in words):
            raise ImproperlyConfigured(f"{name} must be a list, with commas between, of {form}.")
        return words

    def url(self, name: str, *, schemes: set[str], default: str | None = None, needed_for: str = "") -> str:
        """Return an address with one of `schemes` that names a host or a socket, without a trailing slash."""
        value = self.text(name, default=default, needed_for=needed_for)
        try:
            parts = urlsplit(value)
            _ = parts.port  # Reading it is what raises on a port that is no number.
        except ValueError as error:
            raise ImproperlyConfigured(f"{name} is not an address.") from error
        if parts.scheme not in schemes:
            allowed = ", ".join(f"{scheme}://" for scheme in sorted(schemes))
            raise ImproperlyConfigured(f"{name} must start with one of {allowed}.")
        if not (parts.hostname or parts.path.strip("/") or parts.query) or re.search(r"\s", value):
            raise ImproperlyConfigured(f"{name} names no host.")
        return value.rstrip("/")

    def origin(self, name: str, *, default: str | None = None, needed_for: str = "") -> str:
        """Return a web address such as https://api.example.com, without a trailing slash."""
        value = self.url(name, schemes={"http", "https"}, default=default, needed_for=needed_for).rstrip("/")
        parts = urlsplit(value)
        if not parts.hostname:
            raise ImproperlyConfigured(f"{name} names no host.")
        if parts.path or parts.query or parts.fragment or "@" in parts.netloc:
            raise ImproperlyConfigured(
                f"{name} must end with the host and port: no path, query or user name."
            )
        return value

    def pattern(
        self, name: str, regex: str, *, form: str, default: str | None = None, needed_for: str = ""
    ) -> str:
        """Return a value that matches `regex` entirely; `form` says in words what that is."""
        value = self.text(name, default=default, needed_for=needed_for)
        if value != default and not re.fullmatch(regex, value, re.ASCII):
            raise ImproperlyConfigured(f"{name} must look like {form}.")
        return value


def celery_broker_url(redis_url: str) -> str:
    """Return a REDIS_URL in Celery's words: it calls a Unix socket redis+socket, and its number virtual_host."""
    parts = urlsplit(redis_url)
    if parts.scheme != "unix":
        return redis_url
    return f"redis+socket://{parts.path}?virtual_host={parse_qs(parts.query).get('db', ['0'])[0]}"
