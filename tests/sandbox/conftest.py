import gc
from collections.abc import Iterator

import pytest
import stripe
from werkzeug.test import Client
from werkzeug.wrappers import Response

from sandbox import Sandbox
from sandbox.contract.recorder import Recorder
from sandbox.contract.spec import Spec, load_spec
from sandbox.transport import SandboxHTTPClient
from tests.sandbox.helpers import KEY, Shop


@pytest.fixture(autouse=True)
def redis() -> None:
    """The sandbox needs neither Redis nor a database; this stands before the suite-wide fixture."""


@pytest.fixture(autouse=True)
def quick_passwords() -> None:
    """Nor any Django settings."""


@pytest.fixture(scope="session")
def spec() -> Spec:
    document = load_spec()
    # It stays to the end: the collector need not go over its hundreds of thousands of dicts again and again.
    gc.freeze()
    return document


@pytest.fixture
def recorder(spec: Spec) -> Iterator[Recorder]:
    recorder = Recorder(spec)
    yield recorder
    assert recorder.problems == []


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    sandbox = Sandbox()
    yield sandbox
    assert sandbox.mishaps == []


@pytest.fixture
def transport(sandbox: Sandbox, recorder: Recorder) -> SandboxHTTPClient:
    return SandboxHTTPClient(sandbox, recorder=recorder)


@pytest.fixture
def client(transport: SandboxHTTPClient) -> stripe.StripeClient:
    return stripe.StripeClient(KEY, http_client=transport)


@pytest.fixture
def browser(transport: SandboxHTTPClient) -> Client:
    return Client(transport.app, Response)


@pytest.fixture
def shop(client: stripe.StripeClient) -> Shop:
    return Shop(client)
