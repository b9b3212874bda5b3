"""What belongs to one webhook has one owner, looked up once, and none that went with a savepoint."""

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from djstripe import models as djstripe

from billing.stripe.client import get_client
from billing.stripe.owner import known_owner, one_look
from tests.billing.cast import deliver, subscribe

pytestmark = pytest.mark.django_db


def look_up() -> djstripe.Account:
    return djstripe.Account.get_or_retrieve_for_api_key(settings.STRIPE_SECRET_KEY)


def test_the_webhooks_of_a_purchase_look_for_owner_and_key_once_each(
    sandbox, webhook_endpoint, organization, plans
):
    subscribe(sandbox, organization, plan=plans.pro)

    with CaptureQueriesContext(connection) as made:
        answers = deliver(sandbox)

    def looks(table: str) -> int:
        return sum(each["sql"].startswith(f'SELECT "{table}"') for each in made)

    assert set(answers) == {200}
    assert len(answers) > 10
    # The owner, and the key of a test or live object and of one for which dj-stripe does not say which.
    assert looks("djstripe_apikey") <= 3 * len(answers)
    # The endpoint's.
    assert looks("djstripe_account") <= len(answers)
    owners = {each.djstripe_owner_account_id for each in djstripe.Invoice.objects.all()}
    assert owners == {sandbox.account_id}


def test_an_account_that_the_block_makes_is_not_remembered_as_its_savepoint_may_go(sandbox, db):
    with one_look():
        with transaction.atomic():
            assert look_up().id == sandbox.account_id
            transaction.set_rollback(True)
        assert not djstripe.Account.objects.exists()

        customer = get_client().v1.customers.create({"email": "a@acme.example"})
        stored = djstripe.Customer.sync_from_stripe_data(customer)

    assert stored.djstripe_owner_account == djstripe.Account.objects.get()


def test_an_account_that_was_there_is_found_without_another_query(sandbox, django_assert_num_queries):
    there = look_up()

    with one_look():
        with django_assert_num_queries(1):
            assert look_up() == there
        with django_assert_num_queries(0):
            assert look_up() == there


def test_nothing_is_remembered_beyond_the_block(sandbox, django_assert_num_queries):
    there = look_up()
    with one_look():
        look_up()
        there.get_default_api_key()
    djstripe.APIKey.objects.all().delete()
    djstripe.Account.objects.all().delete()

    assert known_owner(settings.STRIPE_SECRET_KEY) is None
    assert look_up().id == sandbox.account_id


def test_a_block_inside_another_belongs_to_it(sandbox, django_assert_num_queries):
    there = look_up()

    with one_look():
        look_up()
        with one_look(), django_assert_num_queries(0):
            assert look_up() == there
        with django_assert_num_queries(0):
            assert look_up() == there
