import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.flows.stack import Stack

CHROMIUM = Path("/usr/bin/chromium")
# Whoever waits for a page here waits for a request to processes that share two cores with the other tests.
PATIENCE_MS = 30_000


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Headless Chromium. Where there is none the tests say so and are skipped, in CI they fail."""
    if not CHROMIUM.exists():
        message = f"There is no browser at {CHROMIUM}: install Debian's chromium to run this test."
        if os.environ.get("REQUIRE_BROWSER"):
            pytest.fail(message)
        pytest.skip(message)
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def stack(chromium: Browser) -> Iterator[Stack]:
    """Tollgate, started on an empty directory by the command behind `make run`, migrations and all."""
    stack = Stack(Path(os.environ["TEST_DIRECTORY"]) / "flow")
    stack.start()
    yield stack
    assert stack.contract_problems() == []
    assert stack.stop() == 0


@pytest.fixture
def page(chromium: Browser, stack: Stack) -> Iterator[Page]:
    yield from open_page(chromium, stack)


@pytest.fixture
def plain_page(chromium: Browser, stack: Stack) -> Iterator[Page]:
    """A page of a browser without JavaScript."""
    yield from open_page(chromium, stack, java_script_enabled=False)


def open_page(chromium: Browser, stack: Stack, **options: Any) -> Iterator[Page]:
    context = chromium.new_context(base_url=stack.origin, **options)
    context.set_default_timeout(PATIENCE_MS)
    yield context.new_page()
    context.close()
