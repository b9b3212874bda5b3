"""No key in full is written anywhere: a life is played, and everything that it left is searched."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.core import mail
from django.db import connection
from django.http import HttpRequest
from django.test import Client, RequestFactory
from django.urls import path, reverse
from django.views.debug import ExceptionReporter as DjangosReporter
from psycopg import sql
from rest_framework.response import Response
from rest_framework.views import APIView

from apikeys import tasks
from apikeys.models import APIKey
from apikeys.redaction import redact
from apikeys.secret import digest, new_secret
from config.reporting import ExceptionReporter, Formatter
from config.urls import urlpatterns as real_urlpatterns

pytestmark = [pytest.mark.django_db, pytest.mark.long]
BACKEND = "allauth.account.auth_backends.AuthenticationBackend"


class Broken(APIView):
    """An operator's view with a bug, which puts the key where it does not belong."""

    gate_cost = 0

    def get(self, request: Any) -> Response:
        secret = request.headers["Authorization"].removeprefix("Bearer ")
        raw = secret.encode() * 9  # Laid out over several lines.
        nested = {"headers": [("Authorization", raw)], "shortened": secret[:-9]}
        raise RuntimeError(f"{secret} is not what was expected, nor is {len(nested)}")


urlpatterns = [*real_urlpatterns, path("broken", Broken.as_view())]


class Heap:
    """Everything that was written, by where it was found."""

    def __init__(self) -> None:
        self.texts: list[tuple[str, str]] = []

    def add(self, where: str, text: str) -> None:
        self.texts.append((where, text))

    def places_of(self, secret: str) -> list[str]:
        """Return where more than a key's first characters stand, in whatever piece."""
        pieces = {secret[start : start + 12] for start in range(20, len(secret) - 11)}
        return [where for where, text in self.texts if any(piece in text for piece in pieces)]


@pytest.fixture
def heap() -> Heap:
    return Heap()


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the product's log says at its most talkative."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(Formatter("{levelname} {name}: {message}", style="{"))
    names = [None, "django", "django.request", "django.db.backends", "apikeys", "usage", "billing", "celery"]
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    logging.getLogger().addHandler(handler)
    logging.getLogger("django").addHandler(handler)
    yield written
    logging.getLogger().removeHandler(handler)
    logging.getLogger("django").removeHandler(handler)
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


@pytest.fixture
def people(browser: Client, admin_client: Client) -> tuple[Client, Client]:
    """A customer and a member of staff, signed in."""
    return browser, admin_client


@pytest.fixture
def places(drain: Any, redis: Any, log: io.StringIO) -> tuple[Any, Any, io.StringIO]:
    return drain, redis, log


def rows_of_every_table() -> str:
    with connection.cursor() as cursor:
        tables = connection.introspection.table_names(cursor)
        texts = []
        for table in tables:
            cursor.execute(sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(table)))
            texts += [row[0] for row in cursor.fetchall()]
    return "\n".join(texts)


def content_of(redis: Any) -> str:
    read = {
        "hash": redis.hgetall,
        "list": lambda name: redis.lrange(name, 0, -1),
        "zset": lambda name: redis.zrange(name, 0, -1, withscores=True),
        "set": redis.smembers,
        "stream": redis.xrange,
        "string": lambda name: (
            redis.connection_pool and redis.execute_command("GET", name, NEVER_DECODE=True)
        ),
    }
    return "\n".join(f"{name} {read[redis.type(name)](name)}" for name in redis.keys("*"))


@pytest.mark.urls(__name__)
def test_no_key_in_full_is_written_anywhere(people, organization, places, heap, settings):
    browser, admin_client = people
    drain, redis, log = places
    settings.DEBUG = True  # The debug page shows the most.
    secrets = []
    program = Client(raise_request_exception=False)

    def call(method: str, where: str, secret: str, body: Any = None, **headers: str) -> Any:
        return program.generic(
            method,
            where,
            json.dumps(body) if body is not None else "",
            content_type="application/json",
            headers={"Authorization": f"Bearer {secret}", **headers},
        )

    # Created on the page and over the API, where alone they are shown.
    first = browser.post("/dashboard/keys/", {"name": "production"}).context["secret"]
    second = call("POST", "/api/v1/keys", first, {"name": "ci"}, **{"Idempotency-Key": "try-1"}).json()[
        "secret"
    ]
    heap.add(
        "replay", call("POST", "/api/v1/keys", first, {"name": "ci"}, **{"Idempotency-Key": "try-1"}).text
    )
    third = browser.post("/dashboard/first-key/")
    heap.add("first key refused", third.content.decode())
    key = APIKey.objects.get(name="production")
    rotated = browser.post(f"/dashboard/keys/{key.pk}/rotate/", {"overlap": "3600"}).context["secret"]
    secrets += [first, second, rotated]

    # Used, misused, and used where the server breaks.
    assert call("GET", "/api/v1/echo", first).status_code == 200
    wrong = first[:-1] + ("a" if first[-1] != "a" else "b")
    invented = new_secret(organization.ref)
    secrets += [wrong, invented]
    for bad in (wrong, invented, first + "x", f"{first} {second}"):
        heap.add("refusal", call("GET", "/api/v1/echo", bad).text)
        heap.add("verification", call("POST", "/api/v1/keys/verify", first, {"key": bad}).text)
    for accept in ("*/*", "application/json"):  # As a page, and as text.
        page = call("GET", "/broken", first, Accept=accept)
        assert page.status_code == 500
        assert "RuntimeError" in page.text
        heap.add(f"debug page as {accept}", page.text)
    settings.DEBUG = False
    heap.add("error page", call("GET", "/broken", first).text)
    drain.run_once()

    # Looked at by customers and staff; staff paste what they should not.
    for where in ("", "first-key/", "keys/", f"keys/{key.pk}/", "usage/", "billing/"):
        heap.add(f"dashboard/{where}", browser.get(f"/dashboard/{where}", follow=True).content.decode())
    changelist = reverse("admin:apikeys_apikey_changelist")
    heap.add("admin search", admin_client.get(changelist, {"q": first}, follow=True).content.decode())
    for where in (
        changelist,
        reverse("admin:apikeys_apikey_change", args=[key.pk]),
        reverse("admin:apikeys_apikey_history", args=[key.pk]),
        reverse("admin:accounts_organization_change", args=[organization.pk]),
        reverse("admin:index"),
    ):
        page = admin_client.get(where, follow=True)
        assert page.status_code == 200
        heap.add(where, page.content.decode())

    # Reported as leaked, with what surrounds them, and with a server that breaks at that.
    heap.add("leak form", browser.post("/leaked-key/", {"found": f"{first} {second} {invented}"}).text)
    heap.add("leak form again", browser.post("/leaked-key/", {"found": first + "\0"}).text)
    assert tasks.send_leak_letters() > 0

    heap.add("mail", "\n".join(f"{m.subject} {m.body} {m.alternatives}" for m in mail.outbox))
    heap.add("redis", content_of(redis))
    heap.add("postgresql", rows_of_every_table())
    heap.add("log", log.getvalue())

    assert digest(first) in dict(heap.texts)["postgresql"]
    assert key.prefix in dict(heap.texts)["mail"]
    assert "RuntimeError" in dict(heap.texts)["log"]
    assert {secret[:20]: heap.places_of(secret) for secret in secrets} == {s[:20]: [] for s in secrets}


def report_of(reporter: type[DjangosReporter], request: HttpRequest, secret: str) -> DjangosReporter:
    try:
        raise RuntimeError(f"What is {secret}?")
    except RuntimeError:
        return reporter(request, *sys.exc_info())


@pytest.mark.parametrize("debug", [True, False])
def test_an_error_report_hides_the_header_the_form_and_the_variables(settings, debug):
    settings.DEBUG = debug
    secret = new_secret("0123456789")
    request = RequestFactory().post(
        f"/leaked-key/?found={secret}", {"found": secret}, headers={"Authorization": f"Bearer {secret}"}
    )

    ours = report_of(ExceptionReporter, request, secret)
    djangos = report_of(DjangosReporter, request, secret)

    for layout in ("get_traceback_html", "get_traceback_text"):
        assert secret in getattr(djangos, layout)()
        assert secret[:22] not in getattr(ours, layout)()
        assert secret[:20] in getattr(ours, layout)()


@pytest.mark.parametrize("field", ["name", "scopes", "mode", "allowed_networks", "rate_per_minute", "{}"])
def test_an_error_does_not_repeat_a_key_that_was_sent_in_the_wrong_place(api_key, field):
    sent = {
        "name": "ci",
        field.format(api_key.secret): [api_key.secret] if field.endswith("s") else api_key.secret,
    }

    answer = Client().post(
        "/api/v1/keys",
        sent,
        content_type="application/json",
        headers={"Authorization": f"Bearer {api_key.secret}"},
    )

    assert answer.status_code == 400
    assert answer.json()["errors"]
    assert api_key.secret[20:32] not in answer.content.decode()


def test_a_key_is_taken_out_of_a_text_whole_or_in_part():
    secret = new_secret("0123456789")

    assert redact(f"a {secret} b {secret[:-7]}, {secret[:20]}.") == (
        f"a {secret[:20]}… b {secret[:20]}…, {secret[:20]}."
    )
    assert redact(f"[tgs_{'a' * 38}]") == "[tgs_aaaaaaaa…]"
    assert redact("nothing to hide in sk_live_") == "nothing to hide in sk_live_"
