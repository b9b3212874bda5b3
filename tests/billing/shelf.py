"""The catalogue at Stripe, published once in each run of the tests and from then on taken from the shelf.

Publishing the seeded plans takes some fifty calls to Stripe and six hundred queries, and half of all tests of
billing begin with it. The first that publishes a catalogue does so for real. What that changed, at Stripe and in our
rows, is kept and put into the sandboxes and databases of later tests in which all is as it was before.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

import stripe
from django.conf import settings
from django.db import connection
from djstripe import models as djstripe

from billing import models
from billing.models import Plan
from billing.stripe.catalog import publish_plan
from sandbox.state import RequestLine, Sandbox
from sandbox.transport import SandboxHTTPClient
from tests.rows import Rows, dump, put_back

# What publishing goes by and changes, here and at Stripe.
CATALOGUE = tuple(
    model._meta.db_table
    for model in (
        *(models.Meter, models.Plan, models.PlanQuota, models.PlanPrice),
        *(models.PublishedPrice, models.PriceMove, models.SubscriberMove, models.BillingSettings),
        *(djstripe.Product, djstripe.Price),
    )
)
OWNER = (djstripe.Account._meta.db_table, djstripe.APIKey._meta.db_table)
KINDS = ("product", "price", "billing.meter", "entitlements.feature", "coupon", "tax_rate")
Kept = dict[tuple[str, str], str]


@dataclass(frozen=True)
class Shelved:
    """What publishing changed. `stripe` is JSON of [kind, id, object]."""

    endpoints: tuple[str, ...]
    stripe: str
    requests: tuple[RequestLine, ...]
    rows: Rows
    owner: Rows


SHELF: dict[str, Shelved] = {}


def publish_plans(plans: Iterable[Plan]) -> None:
    """Make Stripe sell the plans as they are here."""
    wanted = list(plans)
    sandbox = sandbox_in_use()
    if sandbox is None or djstripe.Account.objects.exclude(id=sandbox.account_id).exists():
        publish(wanted)
        return
    key = key_of(wanted, sandbox)
    if key in SHELF:
        take(SHELF[key], sandbox)
        return
    before, rows, seen = kept_by(sandbox), dump(all_tables()), len(sandbox.requests)
    publish(wanted)
    after = dump(all_tables())
    changed = {table: after[table] for table in after if after[table] != rows[table]}
    # What else it touched, such as entitlements of subscribers, is made anew each time.
    if {*changed} <= {*CATALOGUE, *OWNER}:
        SHELF[key] = Shelved(
            endpoints=endpoints_of(sandbox),
            stripe=json.dumps(
                [
                    [*each, json.loads(text)]
                    for each, text in kept_by(sandbox).items()
                    if before.get(each) != text
                ]
            ),
            requests=tuple(sandbox.requests)[seen:],
            rows={table: text for table, text in changed.items() if table in CATALOGUE},
            owner={table: after[table] for table in OWNER if after[table]},
        )


def publish(plans: Iterable[Plan]) -> None:
    for plan in plans:
        publish_plan(plan)


def sandbox_in_use() -> Sandbox | None:
    """Return the sandbox that calls go to, None where something else stands in between."""
    client = stripe.default_http_client
    return client.app.sandbox if type(client) is SandboxHTTPClient else None


def key_of(plans: Iterable[Plan], sandbox: Sandbox) -> str:
    """Return what decides what publishing changes: what is asked for, our rows, what Stripe has, and the clock."""
    there = [[kind, list(sandbox.store._kept.get(kind, {}).values())] for kind in KINDS]
    decisive = (
        [plan.pk for plan in plans],
        dump(CATALOGUE),
        # Without their own keys, which a test that makes tiers has anew from a sequence.
        list(
            models.PriceTier.objects.order_by("price", "up_to").values_list("price", "up_to", "unit_amount")
        ),
        json.dumps(there, sort_keys=True),
        len(endpoints_of(sandbox)),
        sandbox.clock.frozen_at,
        settings.STRIPE_PRICE_IDS,
    )
    return sha256(repr(decisive).encode()).hexdigest()


def kept_by(sandbox: Sandbox) -> Kept:
    kept = sandbox.store._kept
    return {
        (kind, each): json.dumps(obj)
        for kind, rows in kept.items()
        for each, obj in rows.items()
        if kind != "_settings"
    }


def endpoints_of(sandbox: Sandbox) -> tuple[str, ...]:
    return tuple(each["id"] for each in sandbox.every("webhook_endpoint"))


def all_tables() -> list[str]:
    return [name for name in connection.introspection.table_names() if not name.startswith("usage_event")]


def take(shelved: Shelved, sandbox: Sandbox) -> None:
    text = shelved.stripe
    for old, new in zip(shelved.endpoints, endpoints_of(sandbox), strict=True):
        text = text.replace(old, new)
    with sandbox.change():
        for kind, each, obj in json.loads(text):
            sandbox.store.put(kind, each, obj)
    sandbox.requests.extend(shelved.requests)
    put_back(shelved.rows, beside=shelved.owner)
