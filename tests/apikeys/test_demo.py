import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import stripe
from dateutil.relativedelta import relativedelta
from django.core.management import call_command
from django.core.management.base import CommandError
from djstripe import models as djstripe
from werkzeug.serving import make_server

from accounts import clock
from accounts.models import Organization
from apikeys.demo import state
from apikeys.demo.acts import ACTS, Life
from apikeys.demo.cast import COMPANIES, Company
from apikeys.demo.ears import open_ears, webhooks_only
from apikeys.demo.errors import DemoError
from apikeys.demo.play import Play, scenes_of
from apikeys.demo.proof import prove
from apikeys.demo.traffic import calls_on
from apikeys.demo.world import StandIn, session_id_of
from apikeys.gate import admit
from apikeys.management.commands.demo import Interrupted, interruptions, tasks_done_at_once
from billing.models import Entitlement, Meter, Notice
from billing.stripe import client as stripe_client
from billing.stripe.catalog import publish_meter
from billing.stripe.webhook_endpoints import ensure_webhook_endpoint
from sandbox import clockwork
from sandbox.__main__ import QuietHandler
from sandbox.app import create_app
from sandbox.state import Sandbox
from tests.billing.cast import deliver, pay, publish_all
from tests.flows.stack import free_port
from tests.usage.cast import make_event
from usage.ledger import store
from usage.models import MeterReport, UsageRollup

MONDAY = datetime(2026, 9, 7, tzinfo=UTC)
START = datetime(2026, 9, 1, tzinfo=UTC)
END = datetime(2026, 12, 1, tzinfo=UTC)


class InProcess:
    """The sandbox of a test as the demo's world: no server, no threads, no waiting."""

    def __init__(self, sandbox):
        self.sandbox = sandbox

    def start_at(self, moment):
        clockwork.start_at(self.sandbox, int(moment.timestamp()))

    def move(self, to):
        clockwork.freeze(self.sandbox, int(to.timestamp()))

    def resume(self):
        self.move(clock.now())
        clockwork.resume(self.sandbox)

    def hear(self):
        while self.sandbox.webhooks.pending():
            assert set(deliver(self.sandbox)) == {200}

    def pay(self, url, *, card, name):
        answer = pay(self.sandbox, url, card=card)
        if answer.status_code == 402:
            return None
        return session_id_of(
            answer.status_code, answer.headers.get("Location", ""), answer.get_data(as_text=True)
        )


@pytest.fixture
def world(sandbox, plans, webhook_endpoint):
    publish_meter(Meter.objects.get(slug="requests"))
    publish_all()
    return InProcess(sandbox)


def company(*acts, name="Acme Labs", calls=3, zone="Europe/Berlin", joins=0):
    return Company(name, zone, joins, calls, acts)


def play(world, *companies, months=1, seed=1):
    end = clock.now().replace(second=0, microsecond=0)
    progress = []
    played = Play(
        world,
        companies=list(companies),
        start=end - relativedelta(months=months),
        end=end,
        seed=seed,
        password="!",
        progress=progress.append,
    )
    with tasks_done_at_once():
        world.start_at(played.start)
        played.run()
    assert progress[-1] == 1.0
    return played


def life_of(company, *, seed=1):
    return Life(company, seed, "!", secrets=["sk_live_one"])


def entitlement_of(company):
    return Entitlement.objects.select_related("plan").get(organization__name=company.name)


def told(company):
    """Return what a company was told by e-mail, oldest first."""
    sent = Notice.objects.filter(organization__name=company.name, state="sent")
    return list(sent.order_by("created_at").values_list("kind", flat=True))


def invoices_of(company):
    rows = djstripe.Invoice.objects.filter(customer__subscriber__name=company.name).order_by("created")
    return list(rows.values_list("stripe_data", flat=True))


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
def test_a_month_is_played_up_to_the_present_and_every_count_of_it_agrees(world):
    buyer = company(
        (0, "subscribe_declined", "pro"), (0, "subscribe", "pro"), (20, "upgrade", "team"), calls=6
    )
    free = company(name="Small Fry", calls=12, zone="Asia/Tokyo")
    began = clock.now()

    played = play(world, buyer, free)

    joined = Organization.objects.get(name=buyer.name).created_at
    assert began - timedelta(days=33) < joined < began - timedelta(days=26)
    assert entitlement_of(buyer).plan.slug == "team"
    assert [invoice["status"] for invoice in invoices_of(buyer)] == ["paid"] * len(invoices_of(buyer))
    assert len(invoices_of(buyer)) >= 2
    assert played.verdicts["quota_exceeded"] > 0
    proof = prove()
    assert proof.differences == []
    assert proof.organizations == 2
    assert 0 < proof.units <= played.verdicts["admitted"]
    assert not MeterReport.objects.exclude(state="sent").exists()
    # And it goes on from there, in the present.
    assert clock.find_standing() is None
    assert abs(world.sandbox.now() - clock.now().timestamp()) <= 2
    assert admit(played.lives[0].secrets[0]).admitted


@pytest.fixture
def stand_in(plans, settings, monkeypatch) -> Iterator[StandIn]:
    """A sandbox behind a port of its own, with the product's calls and its webhooks going over HTTP."""
    sandbox = Sandbox()
    server = make_server("127.0.0.1", 0, create_app(sandbox), threaded=True, request_handler=QuietHandler)
    sandbox.base_url = origin = f"http://127.0.0.1:{server.port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    sandbox.webhooks.start()
    settings.STRIPE_API_BASE = origin
    settings.API_BASE_URL = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setattr(stripe, "api_base", origin)
    stripe_client.use_http_client(stripe_client.new_http_client())
    ensure_webhook_endpoint()
    publish_meter(Meter.objects.get(slug="requests"))
    publish_all()
    yield StandIn(origin)
    server.shutdown()
    sandbox.close()


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
def test_a_running_sandbox_is_played_with_over_http(stand_in, settings):
    buyer = company(
        (0, "subscribe_declined", "pro"), (0, "subscribe", "pro"), (10, "cancel_now", ""), calls=1
    )

    with open_ears(settings.API_BASE_URL):
        play(stand_in, buyer)

    assert (entitlement_of(buyer).plan.slug, entitlement_of(buyer).status) == ("free", "canceled")
    assert prove().differences == []


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
def test_a_card_that_fails_ends_the_plan_and_one_that_is_mended_keeps_it(world):
    lost = company((0, "subscribe", "pro"), (5, "card_fails", ""), name="Lost Cause", calls=1)
    saved = company(
        (0, "subscribe", "pro"), (5, "card_fails", ""), (33, "mend_card", "pay"), name="Close Call", calls=1
    )

    play(world, lost, saved, months=2)

    assert (entitlement_of(lost).plan.slug, entitlement_of(lost).status) == ("free", "canceled")
    assert (entitlement_of(saved).plan.slug, entitlement_of(saved).status) == ("pro", "active")
    assert "open" in {invoice["status"] for invoice in invoices_of(lost)}
    assert {invoice["status"] for invoice in invoices_of(saved)} == {"paid"}
    assert told(lost)[-1] == "cancelled"
    assert told(saved)[-2:] == ["payment_failed", "recovered"]
    assert prove().differences == []


@pytest.mark.django_db(transaction=True)
def test_a_count_that_differs_is_named(world):
    only = company((0, "subscribe", "pro"), calls=2)
    play(world, only)
    rollup = UsageRollup.objects.order_by("hour").first()
    store([
        make_event(organization_id=rollup.organization_id, at=rollup.hour + timedelta(minutes=1), units=7,
                   period_start=rollup.period_start)
    ])  # fmt: skip

    differences = prove().differences

    assert len(differences) == 1
    assert differences[0].startswith("Acme Labs, Requests, from ")


@pytest.mark.parametrize("each", COMPANIES, ids=lambda company: company.slug)
def test_everybody_in_the_cast_can_be_played(each):
    assert ZoneInfo(each.time_zone)
    assert {act for _, act, _ in each.acts} <= set(ACTS)
    scenes = scenes_of(life_of(each), start=START, end=END)
    assert scenes[0].act == "sign_up"
    assert scenes == sorted(scenes, key=lambda scene: scene.at)
    assert {(scene.at.second, scene.at.microsecond) for scene in scenes} == {(0, 0)}


def test_the_cast_has_thirty_companies_of_different_names_on_every_plan():
    assert len({each.slug for each in COMPANIES}) == 30
    bought = {argument for each in COMPANIES for _, act, argument in each.acts if act == "subscribe"}
    assert bought == {"pro", "team", "enterprise"}
    assert [each for each in COMPANIES if not each.acts]


def test_the_same_seed_plays_the_same_and_another_does_not():
    zone = ZoneInfo("Europe/Berlin")

    def plot(seed):
        life = life_of(COMPANIES[0], seed=seed)
        scenes = [(scene.at, scene.act) for scene in scenes_of(life, start=START, end=END)]
        return scenes, [(call.at, call.status) for call in calls_on(life, MONDAY.date(), zone)]

    assert plot(1) == plot(1)
    assert plot(1) != plot(2)


def test_calls_come_on_working_days_and_in_working_hours_of_their_place():
    life = life_of(replace(COMPANIES[0], time_zone="Asia/Tokyo"))
    zone = ZoneInfo("Asia/Tokyo")
    week = [calls_on(life, (MONDAY + timedelta(days=day)).date(), zone) for day in range(28)]

    working = [len(calls) for day, calls in enumerate(week) if day % 7 < 5]
    weekend = [len(calls) for day, calls in enumerate(week) if day % 7 >= 5]
    assert min(working) > max(weekend) / 2
    assert sum(working) / 20 > 3 * sum(weekend) / 8
    hours = Counter(call.at.astimezone(zone).hour for calls in week for call in calls)
    assert set(hours) <= set(range(8, 19))
    assert hours[10] + hours[11] > hours[8] + hours[18]


@pytest.mark.django_db
def test_customers_that_are_here_already_are_not_mixed_with(organization):
    with pytest.raises(DemoError, match=r"customers here already.*make run VAR=var/demo DEMO=3"):
        state.check_empty(but_for="demo@tollgate.example", months=3)


@pytest.mark.django_db
def test_the_customer_that_every_development_run_has_is_no_hindrance(organization, owner):
    state.check_empty(but_for=owner.email, months=3)


@pytest.fixture
def var(settings, tmp_path) -> Path:
    settings.DEBUG = True
    settings.VAR_DIR = tmp_path
    (tmp_path / "demo.json").write_text('{"customer_password": "secret"}')
    return tmp_path


def test_a_demo_stopped_half_way_keeps_these_data_from_being_used(var):
    state.mark_started()

    for command in ("demo", "prepare_demo"):
        with pytest.raises(
            CommandError, match=f"stopped half-way on these data.*remove {var} and begin anew"
        ):
            call_command(command)


def test_a_demo_played_to_its_end_leaves_a_login_to_show(var):
    state.mark_started()
    state.mark_finished(login="owner@acme.example", organizations=4)

    state.check_finished()
    assert state.password() == "secret"
    assert '"login": "owner@acme.example"' in (var / "demo.json").read_text()


def test_a_demo_is_never_played_in_production(settings):
    settings.DEBUG = False

    with pytest.raises(CommandError, match="DEBUG=1 only"):
        call_command("demo")


def test_a_demo_is_never_played_on_stripe_itself(settings):
    settings.DEBUG = True
    settings.STRIPE_API_BASE = "https://api.stripe.com"

    with pytest.raises(CommandError, match="with the Stripe sandbox only"):
        call_command("demo")


@pytest.mark.parametrize("argument", ["--months=0", "--months=13", "--months=x", "--organizations=31"])
def test_numbers_that_cannot_be_played_are_refused(argument):
    with pytest.raises(CommandError, match="no whole number from 1 to"):
        call_command("demo", argument)


def test_a_request_to_stop_ends_the_play():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted), interruptions():
        os.kill(os.getpid(), signal.SIGTERM)

    assert signal.getsignal(signal.SIGTERM) is before


def test_an_address_that_is_served_already_is_named():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        with (
            pytest.raises(DemoError, match=f"{base_url}, and something listens there already"),
            open_ears(base_url),
        ):
            pass


def test_only_webhooks_get_in_while_the_demo_is_played():
    answers = []

    def start_response(status, headers):
        answers.append(status)

    application = webhooks_only(lambda environ, start: ["a webhook"])

    assert application({"PATH_INFO": "/stripe/webhook/1/"}, start_response) == ["a webhook"]
    assert application({"PATH_INFO": "/dashboard/"}, start_response) != ["a webhook"]
    assert answers == ["503 Service Unavailable"]


def test_a_webhook_that_is_refused_again_and_again_ends_the_play(monkeypatch):
    refused = {"type": "invoice.paid", "attempts": 3, "last_error": None, "last_status": 500}
    world = StandIn("http://127.0.0.1:1")
    monkeypatch.setattr(world, "_waiting", lambda: [refused])

    with pytest.raises(DemoError, match=r"invoice\.paid does not get through: answered with 500"):
        world.hear()


def test_a_sandbox_that_does_not_answer_is_named():
    with pytest.raises(DemoError, match=r"does not answer at http://127.0.0.1:1/sandbox/clock"):
        StandIn("http://127.0.0.1:1").start_at(START)
