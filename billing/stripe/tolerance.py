"""Where dj-stripe does not understand what Stripe sends today, and would fail for ever."""

from typing import Any

from djstripe import models as djstripe


def take_discounted_customers() -> None:
    """Let customers be mirrored who have a discount, which Stripe's dashboard can give them.

    dj-stripe 2.11 looks for the coupon in discount.coupon and raises without one; since 2025-09-30.clover it
    is in discount.source. Each event of such a customer would be answered with 500, and Stripe switches off
    an endpoint that goes on like that. The discount itself stays in `stripe_data`.
    """
    hook = djstripe.Customer._attach_objects_post_save_hook
    if getattr(hook, "takes_discounts", False):
        return

    def attach(self: djstripe.Customer, cls: Any, data: Any, *args: Any, **kwargs: Any) -> None:
        hook(self, cls, {**data, "discount": None}, *args, **kwargs)

    attach.takes_discounts = True  # type: ignore[attr-defined]
    djstripe.Customer._attach_objects_post_save_hook = attach
