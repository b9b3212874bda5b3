"""How often each page may be called, and that no open endpoint was forgotten."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from django.core import mail
from django.test import Client
from django.urls import URLResolver, get_resolver, reverse
from djstripe import models as djstripe
from rest_framework.permissions import AllowAny

from accounts.models import User
from billing.models import EventDestination
from billing.stripe.client import get_client
from config.rates import RATES, UNCOUNTED
from tests.billing.cast import deliver
from tests.config.test_errors import until_refused

pytestmark = pytest.mark.django_db


def endpoints(resolver: Any = None, namespaces: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield every view of the URL conf with its name."""
    for pattern in (resolver or get_resolver()).url_patterns:
        if isinstance(pattern, URLResolver):
            inner = (*namespaces, pattern.namespace) if pattern.namespace else namespaces
            yield from endpoints(pattern, inner)
        else:
            yield ":".join([*namespaces, pattern.name or pattern.lookup_str]), pattern.callback


def is_open(view: Any) -> bool:
    """Whether the view answers somebody with neither a session nor a key."""
    if getattr(view, "login_required", True):
        return False
    kind = getattr(view, "cls", None)
    return kind is None or not kind.authentication_classes or AllowAny in kind.permission_classes


def test_every_endpoint_that_anybody_can_call_has_a_rate_or_a_reason():
    opened = {name for name, view in endpoints() if is_open(view)}

    assert {"home", "account_login", "admin:login", "api-plans", "stripe-webhook"} <= opened
    assert opened <= RATES.keys() | UNCOUNTED.keys()


def test_the_tables_name_nothing_that_is_not_there_and_nothing_twice():
    names = {name for name, _ in endpoints()}

    assert RATES.keys() | UNCOUNTED.keys() <= names
    assert not RATES.keys() & UNCOUNTED.keys()
    for name, view in endpoints():
        if name in RATES and RATES[name].by == "user":
            assert not is_open(view), f"{name} is open to people who are nobody's user."


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("account_signup", {"email": "a@b.example", "password1": "short", "organization": "A"}),
        ("account_login", {"login": "a@b.example", "password": "wrong"}),
        ("account_reset_password", {"email": "a@b.example"}),
        ("account_email_verification_sent", {"code": "AAAAAA"}),
        ("admin:login", {"username": "a@b.example", "password": "wrong"}),
    ],
)
def test_a_form_that_is_sent_too_often_gets_429_with_the_time_to_wait(client, plans, name, form):
    address, rate = reverse(name), RATES[name].sends

    # Another user name each time: it is the address that is counted.
    number = count()
    *admitted, refused = until_refused(
        lambda: client.post(address, {key: f"{next(number)}{value}" for key, value in form.items()}),
        rate=rate,
    )

    assert len(admitted) >= rate
    assert {answer.status_code for answer in admitted} <= {200, 302}
    assert refused.status_code == 429
    assert 1 <= int(refused["Retry-After"]) <= 61
    assert "Too many tries" in refused.text
    assert len(mail.outbox) <= rate
    # The page itself is there still, and so is everything for people elsewhere.
    assert client.get(address).status_code in {200, 302}
    assert client.post(address, form, REMOTE_ADDR="192.0.2.9").status_code != 429


def test_what_a_forged_form_would_have_sent_counts_too(plans):
    suspicious = Client(enforce_csrf_checks=True)

    *_, refused = until_refused(lambda: suspicious.post("/login/", {}), rate=10)

    assert refused.status_code == 429


def test_setting_a_password_by_a_guessed_link_is_counted(client, plans):
    guesses = count()
    *_, refused = until_refused(
        lambda: client.get(f"/password/reset/key/{next(guesses)}-cabc12-abcdef/"), rate=30
    )

    assert refused.status_code == 429


@pytest.mark.parametrize("path", ["/", "/pricing/", "/api/v1/nothing", "/api/docs/", "/readyz"])
def test_open_pages_are_counted_by_address(client, plans, path, monkeypatch):
    for name in RATES:
        monkeypatch.setitem(RATES, name, RATES[name]._replace(requests=3))

    *admitted, refused = until_refused(lambda: client.get(path), rate=3)

    assert len(admitted) >= 3
    assert refused.status_code == 429
    assert client.get(path, REMOTE_ADDR="192.0.2.9").status_code != 429


def test_the_api_refuses_with_a_problem(client, plans):
    *_, refused = until_refused(lambda: client.get("/api/v1/plans"), rate=60)

    problem = refused.json()
    assert refused["Content-Type"] == "application/problem+json"
    assert (problem["status"], problem["code"]) == (429, "too_many_requests")
    assert problem["retry_after"] == int(refused["Retry-After"])


def test_load_balancers_may_ask_for_life_as_often_as_they_like(client):
    assert {client.get("/healthz").status_code for _ in range(700)} == {200}


class TestWhoIsCounted:
    """The client's own address, whatever it says of itself."""

    def tries(self, *, forwarded: str, remote: str = "10.0.0.1") -> Any:
        """Send the log-in form until it is refused, with an X-Forwarded-For that differs each time."""
        number = count()

        def send() -> Any:
            headers = {"X-Forwarded-For": forwarded.format(f"198.51.100.{next(number)}")}
            return Client().post("/login/", {"login": "x"}, headers=headers, REMOTE_ADDR=remote)

        return until_refused(send, rate=10)[-1].status_code

    @pytest.mark.parametrize(
        ("proxies", "forwarded"),
        [
            (0, "{}"),  # Nobody's header is believed.
            (1, "{}, 203.0.113.9"),  # The proxy wrote the last one.
            (2, "{}, 203.0.113.9, 10.0.0.7"),
            (2, "{}"),  # Came past the first proxy.
            (1, "{}, nonsense"),
        ],
    )
    def test_an_address_that_is_made_up_evades_nothing(self, settings, plans, proxies, forwarded):
        settings.TRUSTED_PROXIES = proxies

        assert self.tries(forwarded=forwarded) == 429

    def test_clients_behind_a_proxy_are_told_apart(self, settings, plans):
        settings.TRUSTED_PROXIES = 1

        assert self.tries(forwarded="{}") == 200

    def test_an_ipv6_client_is_its_whole_64(self, plans):
        answers = [
            Client().post("/login/", {"login": "x"}, REMOTE_ADDR=f"2001:db8:1:2::{number:x}")
            for number in range(1, 22)
        ]

        assert answers[-1].status_code == 429
        elsewhere = Client().post("/login/", {"login": "x"}, REMOTE_ADDR="2001:db8:1:3::1")
        assert elsewhere.status_code == 200

    def test_ipv4_addresses_in_ipv6_form_are_told_apart(self, plans):
        answers = {
            Client().post("/login/", {"login": "x"}, REMOTE_ADDR=f"::ffff:192.0.2.{n}").status_code
            for n in range(1, 22)
        }

        assert answers == {200}

    def test_no_address_at_all_is_counted_as_one(self, plans):
        answers = [Client().post("/login/", {"login": "x"}, REMOTE_ADDR="") for _ in range(21)]

        assert answers[-1].status_code == 429

    def test_allauth_counts_the_same_address_and_says_when_to_come_back(self, client, settings, plans):
        User.objects.create_user("owner@acme.example", "correct horse battery")
        settings.ACCOUNT_RATE_LIMITS = {"reset_password": "1/m/key"}
        form = {"email": "owner@acme.example"}

        answers = [client.post("/password/reset/", form) for _ in range(3)]

        assert [answer.status_code for answer in answers] == [302, 429, 429]
        assert answers[-1]["Retry-After"] == "60"

    def test_people_who_are_signed_in_are_counted_one_by_one(self, browser, outsider):
        *_, refused = until_refused(lambda: browser.post("/dashboard/billing/undo/"), rate=20)
        assert refused.status_code == 429

        rival = Client()
        rival.force_login(outsider, backend="allauth.account.auth_backends.AuthenticationBackend")
        assert rival.post("/dashboard/billing/undo/").status_code == 302


class TestStripe:
    """What Stripe signed is never refused; what is forged is not stored without end."""

    def forge(self, path: str, *, signature: str | None = "t=1,v1=zz") -> Any:
        headers = {"Stripe-Signature": signature} if signature else {}
        return Client().post(path, "{}", content_type="application/json", headers=headers)

    def test_forged_webhooks_are_refused_and_stored_no_more_while_real_ones_come_in(
        self, sandbox, webhook_endpoint, organization
    ):
        path = f"/stripe/webhook/{webhook_endpoint.djstripe_uuid}/"
        *_, refused = until_refused(lambda: self.forge(path), rate=30)
        assert (refused.status_code, 1 <= int(refused["Retry-After"]) <= 61) == (429, True)
        stored = djstripe.WebhookEventTrigger.objects.count()

        assert {self.forge(path).status_code for _ in range(5)} == {429}

        assert djstripe.WebhookEventTrigger.objects.count() == stored
        product = get_client().v1.products.create({"name": "Anything"})
        get_client().v1.products.update(product.id, {"name": "Something"})
        statuses = deliver(sandbox)
        assert statuses
        assert set(statuses) == {200}

    @pytest.mark.parametrize("signature", [None, "t=1,v1=zz"])
    def test_addresses_that_lead_nowhere_are_counted(self, plans, signature):
        path = "/stripe/webhook/00000000-0000-4000-8000-000000000000/"

        *admitted, refused = until_refused(lambda: self.forge(path, signature=signature), rate=30)

        assert {answer.status_code for answer in admitted} <= {400, 404}
        assert refused.status_code == 429

    def test_forged_thin_events_are_refused(self, plans):
        destination = EventDestination.objects.create(
            id="ed_1", uuid="00000000-0000-4000-8000-000000000001", secret="whsec_x"
        )

        *admitted, refused = until_refused(lambda: self.forge(f"/stripe/thin/{destination.uuid}/"), rate=30)

        assert {answer.status_code for answer in admitted} == {400}
        assert refused.status_code == 429
