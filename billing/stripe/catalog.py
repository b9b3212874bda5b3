"""Meters, products and prices at Stripe: what publishing would change there, and changing it.

Under the catalogue's lock it is first computed from what Stripe has, then done: a repeat does what is still to do.
"""

from collections.abc import Iterable, Mapping, Sequence

from django.db import transaction

from billing import publishing
from billing.adopting import adopt, configured_price
from billing.errors import AdoptionRefused, BillingError, PreviewOutdated, PublicationRefused, StripeRejected
from billing.locks import catalogue_lock
from billing.models import Meter, Plan
from billing.publication import AdoptPrice, Publication
from billing.stripe import catalog_reading as reading
from billing.stripe.catalog_writing import carry_out, mirror_price
from billing.stripe.client import translated_errors


def preview_publication(
    plans: Sequence[Plan], *, meters: Sequence[Meter] = (), adopting: Mapping[str, str] | None = None
) -> Publication:
    """Return what publishing would do now. Changes nothing, here or at Stripe.

    `adopting` maps a plan's slug to the id of a price of Stripe's that is to become its fee.
    Raises StripeUnavailable or StripeRejected.
    """
    with transaction.atomic():
        publication = draft(plans, meters=meters, adopting=adopting or {})
        # Adopting changed our rows, to see what follows from that.
        transaction.set_rollback(True)
    return publication


def publish(
    plans: Sequence[Plan],
    *,
    meters: Sequence[Meter] = (),
    adopting: Mapping[str, str] | None = None,
    digest: str | None = None,
) -> Publication:
    """Make Stripe sell what our rows say, and return what that took; an empty list where it does already.

    `digest` is that of the list that was agreed to: where the list is another one by now, nothing is done and
    PreviewOutdated is raised. Raises PublicationRefused where a price cannot be adopted, StripeUnavailable or
    StripeRejected: then what was done until then stays done, and a repeat goes on from there.
    """
    failure: BillingError | None = None
    with catalogue_lock():
        with transaction.atomic():
            publication = draft(plans, meters=meters, adopting=adopting or {})
            if digest not in {None, publication.digest}:
                raise PreviewOutdated(
                    "Stripe or the plan has changed since you looked: this is the list now."
                )
        try:
            with translated_errors():
                for change in publication.changes:
                    carry_out(change)
        except BillingError as error:
            failure = error
    # Raised outside the transaction, which would take back what was noted of what Stripe has done.
    if failure:
        raise failure
    return publication


def draft(plans: Sequence[Plan], *, meters: Sequence[Meter], adopting: Mapping[str, str]) -> Publication:
    """Return what is to be done, with the prices that are to be adopted adopted in our rows."""
    adopted: list[AdoptPrice] = []
    faults: list[str] = []
    refused: set[Plan] = set()
    with translated_errors():
        for plan in plans:
            try:
                adopted += adoptions(plan, asked_for=adopting.get(plan.slug, ""))
            except AdoptionRefused as error:
                refused.add(plan)
                faults.append(f"{plan} cannot be published. {error}")
        ready = [plan for plan in plans if plan not in refused]
        snapshot = reading.read(ready)
    compared = publishing.compare(ready, meters, snapshot)
    return Publication((*adopted, *compared.changes), (*faults, *compared.faults))


def adoptions(plan: Plan, *, asked_for: str) -> Iterable[AdoptPrice]:
    """Adopt what staff asked for, else what the environment names. Raises AdoptionRefused."""
    price_id = asked_for or configured_price(plan)
    if not price_id:
        return []
    variable = "" if asked_for else f"STRIPE_PRICE_ID_{plan.slug.upper()}: "
    try:
        price = reading.get_price(price_id)
        product = reading.get_product(price["product"])
        with transaction.atomic():
            mirror_price(price, product)
            return [adopt(plan, price, product)]
    except StripeRejected as error:
        raise AdoptionRefused(f"{variable}Stripe has no price {price_id}.") from error
    except AdoptionRefused as error:
        raise AdoptionRefused(f"{variable}{error}") from error


def publish_plan(plan: Plan) -> list[str]:
    """Make a plan's products and prices exist at Stripe; return the lookup keys that got a new price.

    Raises PublicationRefused with a sentence where the plan cannot be published as it is, StripeUnavailable or
    StripeRejected.
    """
    if not plan.prices.exists() and not configured_price(plan):
        return []
    publication = publish([plan])
    if publication.faults:
        raise PublicationRefused(" ".join(publication.faults))
    return publication.created_keys()


def publish_meter(meter: Meter) -> str:
    """Make the meter exist at Stripe and return its id there. Raises as `publish_plan` does."""
    publication = publish([], meters=[meter])
    if publication.faults:
        raise PublicationRefused(" ".join(publication.faults))
    meter.refresh_from_db(fields=["stripe_meter_id"])
    return meter.stripe_meter_id
