"""Copy objects from Stripe into the mirror, one failing without the others, and keep count of what that mended."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import stripe
from django.db import models
from djstripe import models as djstripe

from billing.errors import StripeRejected, StripeUnavailable
from billing.stripe import mirror
from billing.stripe.client import get_client, translated_errors

logger = logging.getLogger(__name__)

# What Stripe leaves out unless asked. Over discounts that are not expanded dj-stripe stumbles.
EXPANDED: dict[type[models.Model], list[Any]] = {djstripe.Invoice: ["discounts"], djstripe.Price: ["tiers"]}


@dataclass(slots=True)
class Outcome:
    """What a comparison repaired, and what it could not do, a sentence each."""

    repaired: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Copier:
    """Each method raises StripeUnavailable, and StripeRejected where Stripe refuses the call itself."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome

    def take_all(
        self,
        model: type[models.Model],
        service: Any,
        params: dict[str, Any],
        *,
        held: Iterable[Any] = (),
    ) -> set[str]:
        """Copy all pages of a list and return the ids on it. Rows of `held` that are not are asked for one by one."""
        expand = [f"data.{name}" for name in EXPANDED.get(model, [])]
        with translated_errors():
            found = list(service.list({**params, "expand": expand, "limit": 100}).auto_paging_iter())
        # The oldest first, as webhooks would have brought them.
        for data in reversed(found):
            self.take(model, data)
        listed = {str(data["id"]) for data in found}
        for row in held:
            if row.id not in listed:
                self.take_again(model, service, row.id)
        return listed

    def take_again(self, model: type[models.Model], service: Any, identifier: str) -> None:
        """Copy an object that the mirror has, or drop it there where Stripe has it no more, such as a draft."""
        try:
            with translated_errors():
                data = service.retrieve(identifier, {"expand": EXPANDED.get(model, [])})
        except StripeRejected as error:
            if error.code != "resource_missing":
                raise
            model._default_manager.filter(id=identifier).delete()
            self.outcome.repaired.append(f"{identifier} was here and is not at Stripe any more.")
        else:
            self.take(model, data)

    def take(self, model: type[models.Model], data: stripe.StripeObject) -> None:
        """Copy one object. What dj-stripe cannot take is a problem, and does not hold up the others."""
        try:
            with translated_errors():
                if model is djstripe.Subscription:
                    for item in data["items"]["data"]:
                        self.ensure_price(item["price"]["id"])
                self.copy(model, data)
        except StripeUnavailable:
            raise
        except Exception as error:
            logger.exception("%s could not be copied from Stripe", data["id"])
            self.outcome.problems.append(
                f"{data['id']} could not be copied: {type(error).__name__}: {error}"[:300]
            )

    def ensure_price(self, price_id: str) -> None:
        """Make the mirror know a price whole. dj-stripe would take it from the subscription, without its tiers."""
        if djstripe.Price.objects.filter(id=price_id).exists():
            return
        client = get_client().v1
        price = client.prices.retrieve(price_id, {"expand": EXPANDED[djstripe.Price]})
        self.copy(djstripe.Product, client.products.retrieve(str(price.product)))
        self.copy(djstripe.Price, price)

    def copy(self, model: type[models.Model], data: stripe.StripeObject) -> None:
        difference = mirror.copy(model, data)
        if difference:
            self.outcome.repaired.append(difference.sentence)
