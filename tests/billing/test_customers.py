import pytest
import stripe
from djstripe import models as djstripe
from djstripe.settings import djstripe_settings

from accounts.models import Organization
from billing.errors import StripeAccessRefused, StripeRejected, StripeUnavailable
from billing.stripe.client import get_client, translated_errors
from billing.stripe.customers import ensure_customer
from billing.tasks import ensure_customer_of
from tests.billing.cast import deliver

pytestmark = pytest.mark.django_db


def test_an_organization_becomes_one_stripe_customer(sandbox, organization):
    customer = ensure_customer(organization)

    assert ensure_customer(organization) == customer
    (stored,) = sandbox.every("customer")
    assert (stored["email"], stored["name"]) == (organization.email, "Acme")
    assert djstripe.Customer.objects.get().subscriber == organization


def test_a_customer_whose_answer_was_lost_is_found_again(sandbox, organization):
    ensure_customer(organization)
    djstripe.Customer.objects.all().delete()

    ensure_customer(organization)

    assert len(list(sandbox.every("customer"))) == 1
    assert djstripe.Customer.objects.get().subscriber == organization


def test_two_organizations_with_one_e_mail_are_two_customers(sandbox, organization, owner):
    second = Organization.objects.open(name="Second", owner=owner)
    ensure_customer(organization)
    ensure_customer(second)

    assert len(list(sandbox.every("customer"))) == 2


def test_the_task_may_run_twice(sandbox, organization):
    ensure_customer_of(str(organization.pk))
    ensure_customer_of(str(organization.pk))

    assert len(list(sandbox.every("customer"))) == 1


def test_one_api_version_everywhere(sandbox):
    assert (
        stripe.api_version
        == djstripe_settings.STRIPE_API_VERSION
        == djstripe_settings.DEFAULT_STRIPE_API_VERSION
    )
    assert get_client()._requestor._options.stripe_version in {None, stripe.api_version}


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (stripe.APIConnectionError("no route"), StripeUnavailable),
        (stripe.RateLimitError("slow down", http_status=429), StripeUnavailable),
        (stripe.APIError("oops", http_status=500), StripeUnavailable),
        (stripe.InvalidRequestError("No such customer", "customer", http_status=404), StripeRejected),
        (stripe.AuthenticationError("Invalid API Key", http_status=401), StripeAccessRefused),
        (stripe.PermissionError("Not allowed", http_status=403), StripeAccessRefused),
        (stripe.CardError("Declined", "card", "card_declined", http_status=402), StripeRejected),
    ],
)
def test_stripe_s_errors_stop_here(error, ours):
    with pytest.raises(ours), translated_errors():
        raise error


def test_a_refusal_keeps_stripe_s_code_and_parameter():
    with pytest.raises(StripeRejected) as caught, translated_errors():
        raise stripe.InvalidRequestError("Missing", "email", code="parameter_missing", http_status=400)

    assert (caught.value.code, caught.value.param) == ("parameter_missing", "email")


def test_a_customer_deleted_at_stripe_is_replaced_by_a_new_one(sandbox, webhook_endpoint, organization):
    first = ensure_customer(organization)
    get_client().v1.customers.delete(first.id)
    assert set(deliver(sandbox)) == {200}

    second = ensure_customer(organization)

    assert second.id != first.id
    assert ensure_customer(organization) == second
