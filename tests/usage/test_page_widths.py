"""Pages about usage are as wide as the screen, however large their numbers are: Chromium lays them out."""

import os
import re
import subprocess
from datetime import timedelta
from html import escape
from pathlib import Path

import pytest
from django.conf import settings

from accounts import clock
from billing.models import Meter
from tests.usage.cast import make_event
from usage.ledger import store

pytestmark = [pytest.mark.django_db, pytest.mark.long]

CHROMIUM = Path("/usr/bin/chromium")
# In a frame, since the browser's own window has a least width.
FRAME = """<!doctype html><iframe style="width: {width}px; height: 900px; border: 0" srcdoc="{page}"></iframe><p></p>
<script>
addEventListener("load", () => {{
  const page = document.querySelector("iframe").contentDocument;
  const beyond = [...page.querySelectorAll(".card .big-number *, .card .small, .card .meter")].filter(
    (each) => each.getBoundingClientRect().right > each.closest(".card").getBoundingClientRect().right);
  document.querySelector("p").textContent = `wide ${{page.documentElement.scrollWidth}}, beyond ${{beyond.length}}`;
}});
</script>"""


@pytest.fixture
def large_numbers(organization) -> None:
    entitlement, now = organization.entitlement, clock.now()
    for slug, units in (("requests", 888_888_888_888), ("tokens", 876_543_210_123_456)):
        Meter.objects.get_or_create(slug=slug, defaults={"name": slug, "unit": "token"})
        entitlement.quotas[slug] = {"included": units + 10**11, "overage": "block"}
        store(
            [
                make_event(
                    organization_id=organization.pk,
                    at=max(now - timedelta(minutes=10), entitlement.period_start),
                    units=units,
                    meter=slug,
                    period_start=entitlement.period_start,
                )
            ]
        )
    entitlement.save()


@pytest.mark.parametrize("width", [375, 1280])
@pytest.mark.parametrize(
    "path", ["/dashboard/", "/dashboard/usage/?meter=tokens", "/dashboard/usage/?by=key&interval=hour"]
)
def test_numbers_of_fifteen_digits_stay_in_their_cards(browser, large_numbers, tmp_path, path, width):
    if not CHROMIUM.exists():
        assert not os.environ.get("REQUIRE_BROWSER"), f"There is no browser at {CHROMIUM}."
        pytest.skip(f"There is no browser at {CHROMIUM}.")
    css = (Path(settings.BASE_DIR) / "static" / "tollgate.css").read_text()
    html = re.sub(r"<(script|link)\b[^>]*>(</script>)?", "", browser.get(path).content.decode())
    page = html.replace("</head>", f"<style>{css}</style></head>")
    assert "876,<wbr>543" in page or "888,<wbr>888" in page
    (tmp_path / "page.html").write_text(FRAME.format(width=width, page=escape(page)))

    laid_out = subprocess.run(
        [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1400,1000"),
            *("--allow-file-access-from-files", "--virtual-time-budget=5000", "--hide-scrollbars"),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", (tmp_path / "page.html").as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert f"<p>wide {width}, beyond 0</p>" in laid_out.stdout, re.findall(r"<p>wide.*?</p>", laid_out.stdout)
