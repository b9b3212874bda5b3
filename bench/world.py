"""Who calls in the bench: organizations with a plan, each with a key of Tollgate's and one of the peers'."""

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

from bench.peers import IS_INSTALLED

PER_MINUTE, BURST, QUOTA = 500, 100, 100_000  # Team's, and the peers' throttle has the same rate.
AUTHORIZE, VERIFY = "/api/v1/gateway/authorize", "/api/v1/keys/verify"


@dataclass(frozen=True)
class Caller:
    """One customer's program. Each has an address of its own, since the peers' throttle counts by address."""

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
        path.write_text(json.dumps([asdict(caller) for caller in fill(callers=number)]))
    return [Caller(**each) for each in json.loads(path.read_text())]


def fill(*, callers: int) -> list[Caller]:
    """Make an empty database a product with customers, and return them."""
    from django.conf import settings  # noqa: PLC0415 - Django is loaded by now.
    from django.db import transaction  # noqa: PLC0415

    from accounts.models import User  # noqa: PLC0415

    # As the tests do: the tables that the migrations end at, without walking through all of dj-stripe's.
    settings.MIGRATION_MODULES = dict.fromkeys(app_labels())
    call_command("migrate", run_syncdb=True, verbosity=0, interactive=False)
    partition()
    seed()
    owner = User.objects.create_user("owner@acme.example", "correct horse battery")
    with transaction.atomic():
        return [enroll(number, owner=owner) for number in range(callers)]


def app_labels() -> list[str]:
    from django.apps import apps  # noqa: PLC0415

    return [config.label for config in apps.get_app_configs()]


def partition() -> None:
    """Put the partitioned ledger in the place of the plain table that Django made without migrations."""
    from django.db import connection  # noqa: PLC0415

    from accounts import clock  # noqa: PLC0415
    from usage import partitions  # noqa: PLC0415

    with connection.cursor() as cursor:
        cursor.execute(partitions.DROP_TABLE + partitions.CREATE_TABLE)
        partitions.ensure_partitions_ahead(clock.now())


def seed() -> None:
    """Sell a plan with every kind of limit, so that the gate has all of its work to do: a rate with a burst, and
    a quota that ends. The default plan is what organizations have from the start."""
    from billing.models import Plan, PlanQuota  # noqa: PLC0415
    from billing.seeds import seed_plans, seed_policies  # noqa: PLC0415

    seed_plans()
    seed_policies()
    Plan.objects.filter(is_default=True).update(rate_per_minute=PER_MINUTE, burst=BURST)
    PlanQuota.objects.filter(plan__is_default=True).update(
        included=QUOTA, overage=PlanQuota.Overage.BLOCK
    )


def enroll(number: int, *, owner: Any) -> Caller:
    """Open an organization with a key of each kind."""
    from accounts.models import Organization  # noqa: PLC0415
    from apikeys.models import APIKey  # noqa: PLC0415

    organization = Organization.objects.open(name=f"Caller {number}", owner=owner)
    _, secret = APIKey.objects.issue(organization=organization, name="bench")
    peers_key = ""
    if IS_INSTALLED:
        from rest_framework_api_key.models import APIKey as PeersKey  # noqa: PLC0415

        _, peers_key = PeersKey.objects.create_key(name=f"caller-{number}")
    return Caller(f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", secret, peers_key)


def front() -> dict[str, str]:
    """Return a service token for each endpoint that other servers ask the gate by; without the endpoint, none."""
    return {
        name: issue(scope)
        for name, path, scope in (
            ("authorize", AUTHORIZE, "gateway:authorize"),
            ("verify", VERIFY, "keys:verify"),
        )
        if exists(path)
    }


def exists(path: str) -> bool:
    from django.urls import resolve  # noqa: PLC0415

    from apikeys.api.echo import NoSuchEndpoint  # noqa: PLC0415

    return getattr(resolve(path).func, "view_class", None) is not NoSuchEndpoint


def issue(scope: str) -> str:
    from apikeys.models import ServiceToken  # noqa: PLC0415

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
    json.dump({"callers": [asdict(caller) for caller in everyone], "tokens": front()}, sys.stdout)
