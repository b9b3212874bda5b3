"""What can go wrong here. Stripe's own exceptions stop at `billing.stripe`."""


class BillingError(Exception):
    """Base of this app's errors. `str(error)` may be shown to the customer."""


class StripeUnavailable(BillingError):
    """Stripe could not be reached, failed, or was too busy. Trying again with the same key is safe."""


class StripeAccessRefused(StripeUnavailable):
    """Stripe does not accept our key, or not for this. Trying again helps once the operator has mended that."""


class UsageNotReported(StripeUnavailable):
    """What was used until now could not be reported, and would be missing on the invoice. Try again."""


class CustomerBusy(BillingError):
    """Something else is being done with the customer at Stripe, and takes its time. Try again."""


class KeyUnusable(BillingError):
    """Stripe knows the key, and it does not belong here. The text says why, for the operator."""


class EndpointMissing(BillingError):
    """The webhook endpoint that the operator made is not as it has to be. The text says how, for the operator."""


class NotSigned(BillingError):
    """What claims to come from Stripe carries no signature that holds, or one that is too old."""


class StripeRejected(BillingError):
    """Stripe refused the request for good. `code` and `param` are Stripe's own, and may be empty."""

    def __init__(self, message: str, *, code: str = "", param: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.param = param


class DiscountUnclear(BillingError):
    """What a customer's discounts leave of a price cannot be told for certain."""


class AlreadySubscribed(BillingError):
    """The organization has a live subscription: Stripe would happily open a second one."""


class NotPublished(BillingError):
    """The plan or price does not exist at Stripe yet: `manage.py stripe_setup` has not run."""


class NoSubscription(BillingError):
    """The organization has no live subscription to do this with."""


class ChangeRefused(BillingError):
    """The subscription cannot be changed like this now. `code` is stable: API clients may act on it."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class PreviewOutdated(BillingError):
    """What was agreed to is not what it would cost now: show the new preview and ask again."""


class PaymentDeclined(BillingError):
    """The payment of a change failed and the change was taken back. `decline_code` is Stripe's, and may be empty."""

    def __init__(self, message: str, *, decline_code: str = "") -> None:
        super().__init__(message)
        self.decline_code = decline_code


class IdempotencyKeyReused(BillingError):
    """The key names another request already."""


class IdempotencyKeyInUse(BillingError):
    """The request that the key names is being worked on. Trying again in a moment gives its outcome."""


class PublicationRefused(BillingError):
    """A plan cannot be published as it is. The message says what to mend."""


class AdoptionRefused(PublicationRefused):
    """A price that Stripe has cannot be a plan's fee."""
