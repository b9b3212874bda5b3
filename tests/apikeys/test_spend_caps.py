"""A spend cap from the customer's page to the gate and on to the invoice."""

import pytest

from billing.entitlements import current_entitlement
from billing.models import Meter
from billing.spend_caps import remove_spend_cap, set_spend_cap
from tests.apikeys.test_allowance import call
from usage.flush import flush_usage

pytestmark = [pytest.mark.django_db, pytest.mark.long]
FEE = 2_900


def cap(acme, meter: Meter, amount: int) -> None:
    set_spend_cap(acme.organization, meter, amount=amount, currency="usd")


def invoice_of_the_month(acme) -> int:
    """Let the month end; return what the invoice that follows it comes to."""
    flush_usage(acme.organization)
    acme.wait_until(current_entitlement(acme.organization).period_end)
    acme.wait(hours=2)
    return int(acme.last_invoice().total)


def test_calls_are_admitted_up_to_the_cap_exactly_and_the_invoice_stays_within_it(metered, requests, api_key):
    cap(metered, requests, 7)  # Three further calls cost 6 cents, a fourth would make it 8.

    assert call(api_key, units=102).verdict == "admitted"
    assert call(api_key, units=2).verdict == "spend_cap_reached"  # Which consumes nothing.
    assert call(api_key).verdict == "admitted"
    refused = call(api_key)
    assert (refused.verdict, refused.policy, refused.used) == ("spend_cap_reached", "spend_cap", 103)

    cap(metered, requests, 8)
    assert call(api_key).verdict == "admitted"
    assert call(api_key).verdict == "spend_cap_reached"

    assert invoice_of_the_month(metered) == FEE + 8


def test_a_cap_of_nothing_lets_through_what_is_included(metered, requests, api_key):
    cap(metered, requests, 0)

    assert call(api_key, units=100).verdict == "admitted"
    assert call(api_key).verdict == "spend_cap_reached"
    assert invoice_of_the_month(metered) == FEE


def test_a_cap_that_is_lowered_or_removed_holds_at_the_next_call(metered, requests, api_key):
    assert call(api_key, units=200).verdict == "admitted"

    cap(metered, requests, 50)
    assert call(api_key).verdict == "spend_cap_reached"

    remove_spend_cap(metered.organization, requests)
    assert call(api_key).verdict == "admitted"


def test_the_next_month_is_open_again(metered, requests, api_key):
    cap(metered, requests, 0)
    call(api_key, units=100)

    invoice_of_the_month(metered)
    metered.see()

    assert call(api_key).verdict == "admitted"
