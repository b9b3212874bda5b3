from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.test import Client
from djstripe import models as djstripe

from accounts import clock
from accounts.models import Membership, Organization, Role, User
from apikeys.models import APIKey
from billing.entitlements import refresh_entitlement
from billing.models import Meter, Plan, PlanPrice, PlanQuota, StatusPolicy
from billing.seeds import seed_plans, seed_policies
from billing.stripe import client as stripe_client
from billing.stripe.webhook_endpoints import ensure_webhook_endpoint
from sandbox import transport
from sandbox.app import Application, create_app
from sandbox.contract.recorder import Recorder
from sandbox.contract.spec import load_spec
from sandbox.ids import new_account_id
from sandbox.state import Sandbox
from sandbox.transport import SandboxHTTPClient
from tests.billing.acme import START, Acme
from tests.flushing import flush_quickly
from tests.rows import once
from usage import stream
from usage.lines import lines
from usage.outage import outage
from usage.redis_client import get_redis
from usage.tables import complete_tables

ACCOUNT = new_account_id()
SEEDS = (Meter, Plan, PlanQuota, PlanPrice, StatusPolicy)
LONGEST = ("tests/flows/", "tests/faults/test_schedules.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # What takes longest comes first: one worker is busy with it while the others do the rest.
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Without migrations Django makes the ledger a plain table: put the partitioned one in its place."""
    with pytest.MonkeyPatch.context() as patch:
        with django_db_blocker.unblock():
            complete_tables()
            flush_quickly(patch)
        yield


@pytest.fixture(autouse=True)
def quick_passwords(settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def redis() -> Iterator[Any]:
    """This worker's Redis, empty."""
    # A thread of a test before may have asked for the client while that test's own Redis was the one to ask.
    get_redis.cache_clear()
    redis = get_redis()
    redis.flushdb()
    yield redis
    lines.confirm()
    outage.end()
    redis.flushdb()


@pytest.fixture(scope="session")
def recorder() -> Recorder:
    """Checks what is sent to the sandbox and what it answers against Stripe's OpenAPI document."""
    return Recorder(load_spec(), strict=True)


@pytest.fixture(autouse=True)
def no_sandbox_goes_unchecked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sandboxes that a test makes for itself are held to Stripe's document as well."""
    spares: list[Recorder] = []

    def checked(sandbox: Sandbox, *, recorder: Recorder | None = None) -> Application:
        if recorder is None:
            recorder = Recorder(load_spec())
            spares.append(recorder)
        return create_app(sandbox, recorder=recorder)

    monkeypatch.setattr(transport, "create_app", checked)
    yield
    assert [str(problem) for each in spares for problem in each.problems] == []


@pytest.fixture
def sandbox(recorder: Recorder) -> Iterator[Sandbox]:
    """Stripe, empty: every call of the product in this test goes to it, and is checked."""
    sandbox = Sandbox()
    # One account for all, so that what one test published can be put into another's sandbox.
    sandbox.account_id = ACCOUNT
    stripe_client.use_http_client(SandboxHTTPClient(sandbox, recorder=recorder))
    recorder.problems.clear()
    yield sandbox
    assert sandbox.mishaps == []
    assert [str(problem) for problem in recorder.problems] == []


@pytest.fixture(autouse=True)
def no_stripe_but_the_sandbox() -> Iterator[None]:
    """A test that forgets the sandbox fails at its first call instead of reaching for the network."""
    stripe_client.use_http_client(Unreachable())
    yield
    stripe_client.use_http_client(Unreachable())


class Unreachable:
    name = "unreachable"

    def __getattr__(self, name: str) -> Any:
        raise AssertionError("This test talks to Stripe: let it use the fixture `sandbox`.")


@pytest.fixture
def plans(db: None) -> SimpleNamespace:
    """The catalogue that a new Tollgate begins with, by slug."""
    once("seeds", SEEDS, lambda: (seed_plans(), seed_policies()))
    return SimpleNamespace(**{plan.slug: plan for plan in Plan.objects.all()})


@pytest.fixture
def owner(db: None) -> User:
    return User.objects.create_user("owner@acme.example", "correct horse battery")


@pytest.fixture
def organization(plans: SimpleNamespace, owner: User) -> Organization:
    """Acme, new: on Free, and unknown to Stripe."""
    return Organization.objects.open(name="Acme", owner=owner)


@pytest.fixture
def outsider(plans: SimpleNamespace) -> User:
    """Owner of another organization."""
    user = User.objects.create_user("outsider@rival.example", "correct horse battery")
    Organization.objects.open(name="Rival", owner=user)
    return user


@pytest.fixture
def developer(organization: Organization) -> User:
    """A teammate at Acme who may not touch billing."""
    user = User.objects.create_user("dev@acme.example", "correct horse battery")
    Membership.objects.create(organization=organization, user=user, role=Role.DEVELOPER)
    return user


@pytest.fixture
def api_key(organization: Organization) -> SimpleNamespace:
    """A key of Acme's, with its secret: `api_key.key`, `api_key.secret`."""
    key, secret = APIKey.objects.issue(organization=organization, name="test")
    return SimpleNamespace(key=key, secret=secret)


@pytest.fixture
def browser(client: Client, owner: User, organization: Organization) -> Client:
    """Acme's owner, signed in."""
    client.force_login(owner, backend="allauth.account.auth_backends.AuthenticationBackend")
    return client


@pytest.fixture
def webhook_endpoint(sandbox: Sandbox, db: None) -> djstripe.WebhookEndpoint:
    endpoint, _ = ensure_webhook_endpoint()
    return endpoint


@pytest.fixture
def drain(db: None) -> stream.Drain:
    return stream.Drain(consumer="test")


@pytest.fixture
def acme(sandbox: Sandbox, organization: Organization) -> Iterator[Acme]:
    """Acme on 1 April 2026, midnight, the plans published; its clock and Stripe's stand, and move together."""
    with clock.standing_at(START) as hands:
        sandbox.set_clock(frozen_at=START)
        refresh_entitlement(organization)
        acme = Acme(sandbox, organization, hands)
        acme.sell_yearly()
        acme.publish()
        yield acme


@pytest.fixture
def requests(plans: SimpleNamespace) -> Meter:
    """The meter that the seeded plans count calls by."""
    return Meter.objects.get(slug="requests")


@pytest.fixture
def metered(acme: Acme, plans: SimpleNamespace) -> Acme:
    """Acme on Pro: 100 calls included, 2 cents for each further one."""
    acme.bill_overage(plans.pro, included=100, cents="2")
    acme.subscribe(plans.pro)
    return acme
