"""Who calls in the bench: organizations with a plan, each with keys of Tollgate's and one of the peers'."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import django
from django.core.management import call_command

from bench.peers import APPS

# The Team plan as it is sold: a rate and a quota that ends. The peers' throttle has the same rate.
PER_MINUTE, QUOTA = 500, 100_000
AUTHORIZE, VERIFY, EVENTS = "/api/v1/gateway/authorize", "/api/v1/keys/verify", "/api/v1/events"


@dataclass(frozen=True)
class Caller:
    """One customer's program. Each has an address of its own, since the peers' throttle counts by address."""

    ref: str
    address: str
    secret: str
    peers_key: str


def set_up() -> None:
    """Load Django on the stores that the environment names, in this process."""
    django.setup()


def people(number: int) -> list[Caller]:
    """Return so many callers: those of an earlier process of this run, or new ones in a new database."""
    path = Path(os.environ["VAR_DIR"]) / f"callers-{number}.json"
    if not path.exists():
        make_tables()
        sell(per_minute=PER_MINUTE, burst=None)
        path.write_text(json.dumps([asdict(caller) for caller in enroll(number)]))
    return [Caller(**each) for each in json.loads(path.read_text())]


def make_tables() -> None:
    """Lay an empty database out as the migrations would, without walking through all of dj-stripe's."""
    from django.apps import apps
    from django.conf import settings

    from usage.tables import complete_tables

    settings.MIGRATION_MODULES = dict.fromkeys(config.label for config in apps.get_app_configs())
    call_command("migrate", run_syncdb=True, verbosity=0, interactive=False)
    complete_tables()


def sell(*, per_minute: int, burst: int | None) -> None:
    """Set the limits of the plan that organizations have from the start."""
    from billing.models import Plan, PlanQuota
    from billing.seeds import seed_plans, seed_policies

    seed_plans()
    seed_policies()
    Plan.objects.filter(is_default=True).update(rate_per_minute=per_minute, burst=burst)
    quotas = PlanQuota.objects.filter(plan__is_default=True)
    quotas.update(included=QUOTA, overage=PlanQuota.Overage.BLOCK)


def enroll(number: int, *, keys_each: int = 1) -> list[Caller]:
    """Create so many organizations on that plan, with active keys; the callers know the last of each.

    In bulk, as the rows that opening them one by one leaves.
    """
    from accounts import clock
    from accounts.models import Organization
    from apikeys.models import APIKey
    from apikeys.secret import DISPLAY_LENGTH, digest, new_secret
    from billing.entitlements import compute
    from billing.models import Entitlement

    organizations = Organization.objects.bulk_create(
        [Organization(name=f"Caller {each}", email="owner@acme.example") for each in range(number)],
        batch_size=2000,
    )
    fields = compute(organizations[0], now=clock.now())  # The same for all: none has a subscription.
    Entitlement.objects.bulk_create(
        [Entitlement(organization=organization, **fields) for organization in organizations], batch_size=2000
    )
    secrets = [new_secret(organization.ref) for organization in organizations for _ in range(keys_each)]
    APIKey.objects.bulk_create(
        [
            APIKey(
                organization=organizations[place // keys_each],
                name="bench",
                prefix=secret[:DISPLAY_LENGTH],
                digest=digest(secret),
            )
            for place, secret in enumerate(secrets)
        ],
        batch_size=2000,
    )
    peers_keys = make_peers_keys(number)
    return [
        Caller(organization.ref, address_of(place), secrets[(place + 1) * keys_each - 1], peers_keys[place])
        for place, organization in enumerate(organizations)
    ]


def add_key(ref: str) -> None:
    """Give an organization one key more."""
    from accounts.models import Organization
    from apikeys.models import APIKey

    APIKey.objects.issue(organization=Organization.objects.get(ref=ref), name="one more")


def make_peers_keys(number: int) -> list[str]:
    from django.apps import apps

    if not all(map(apps.is_installed, APPS)):
        return [""] * number
    from rest_framework_api_key.models import APIKey

    model: Any = APIKey  # Published without types.
    rows = [model(name=f"caller-{each}") for each in range(number)]
    keys = [model.objects.assign_key(row) for row in rows]
    model.objects.bulk_create(rows, batch_size=2000)
    return keys


def address_of(number: int) -> str:
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def find_tokens() -> dict[str, str]:
    """Return a service token for each endpoint that other servers ask the gate by; without the endpoint, none."""
    endpoints = (
        ("authorize", AUTHORIZE, "gateway:authorize"),
        ("verify", VERIFY, "keys:verify"),
        ("events", EVENTS, "events:write"),
    )
    return {name: issue_token(scope) for name, path, scope in endpoints if exists(path)}


def exists(path: str) -> bool:
    from django.urls import resolve

    from apikeys.api.echo import NoSuchEndpoint

    return getattr(resolve(path).func, "view_class", None) is not NoSuchEndpoint


def issue_token(scope: str) -> str:
    from apikeys.models import ServiceToken

    tokens: Any = ServiceToken.objects
    _, secret = tokens.issue(name=f"bench {scope}", scopes=[scope])
    return str(secret)


def prepare(environment: Mapping[str, str], *, callers: int) -> tuple[list[Caller], dict[str, str]]:
    """Fill the stores from a process of its own; return the callers, and service tokens by endpoint."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.world", str(callers)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    found = json.loads(done.stdout)
    return [Caller(**each) for each in found["callers"]], found["tokens"]


if __name__ == "__main__":
    set_up()
    everyone = people(int(sys.argv[1]))
    json.dump({"callers": [asdict(caller) for caller in everyone], "tokens": find_tokens()}, sys.stdout)
