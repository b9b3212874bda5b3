import logging

import pytest
from werkzeug.test import Client as SandboxBrowser

from billing.errors import NotPublished, StripeRejected, StripeUnavailable
from billing.stripe.client import get_client
from billing.stripe.customers import ensure_customer
from billing.stripe.portal import open_portal
from sandbox.app import create_app
from sandbox.resources.billing_portal_configurations import new_configuration
from tests.billing.buying import settings
from tests.billing.cast import subscribe

pytestmark = pytest.mark.django_db
BACK = "http://127.0.0.1:8000/dashboard/billing/"


@pytest.fixture
def configuration(sandbox, db):
    """Ours, as stripe_setup makes it: no switching of plans."""
    made = get_client().v1.billing_portal.configurations.create(
        {
            "features": {
                "payment_method_update": {"enabled": True},
                "subscription_cancel": {"enabled": True, "mode": "at_period_end"},
                "subscription_update": {"enabled": False},
            }
        }
    )
    settings(portal_configuration_id=made.id)
    return made


def session_of(sandbox):
    (session,) = sandbox.every("billing_portal.session")
    return session


def test_a_visit_is_for_the_organization_s_own_customer(sandbox, organization, configuration):
    url = open_portal(organization, return_url=BACK)

    session = session_of(sandbox)
    assert session["customer"] == ensure_customer(organization).id
    assert (session["configuration"], session["return_url"], session["url"]) == (configuration.id, BACK, url)


def test_the_page_opens_and_offers_no_change_of_plan(sandbox, organization, plans, configuration):
    subscribe(sandbox, organization, plan=plans.pro)
    url = open_portal(organization, return_url=BACK)

    page = SandboxBrowser(create_app(sandbox)).get(url, follow_redirects=True).get_data(as_text=True)

    assert "Cancel" in page
    assert "Update plan" not in page


def test_the_flow_for_a_new_card_comes_back_by_itself(sandbox, organization, configuration):
    open_portal(organization, return_url=BACK, flow="payment_method_update")

    flow = session_of(sandbox)["flow"]
    assert flow["type"] == "payment_method_update"
    assert flow["after_completion"] == {
        "type": "redirect",
        "redirect": {"return_url": BACK},
        "hosted_confirmation": None,
    }


def test_there_is_no_flow_that_changes_the_plan(sandbox, organization, configuration):
    with pytest.raises(ValueError, match="no portal flow 'subscription_update'"):
        open_portal(organization, return_url=BACK, flow="subscription_update")


def test_an_organization_that_stripe_has_not_heard_of_becomes_a_customer(
    sandbox, organization, configuration
):
    open_portal(organization, return_url=BACK)
    open_portal(organization, return_url=BACK)

    assert len(list(sandbox.every("customer"))) == 1


def test_without_ours_stripe_s_default_applies(sandbox, organization):
    # As saved by hand in Stripe's dashboard.
    features = {"features": {"invoice_history": {"enabled": True}}}
    with sandbox.change():
        default = new_configuration(sandbox, features, is_default=True)

    open_portal(organization, return_url=BACK)

    assert session_of(sandbox)["configuration"] == default["id"]


def test_a_portal_that_was_never_set_up_is_said_so_and_logged(sandbox, organization, caplog):
    with caplog.at_level(logging.ERROR), pytest.raises(NotPublished, match="not set up yet"):
        open_portal(organization, return_url=BACK)

    assert "run manage.py stripe_setup" in caplog.text


@pytest.mark.parametrize("what", ["gone", "inactive"])
def test_a_configuration_that_is_not_to_be_had_any_more_is_said_so(
    sandbox, organization, configuration, what
):
    if what == "gone":
        settings(portal_configuration_id="bpc_1Gone00000000000000000000")
    else:
        other = get_client().v1.billing_portal.configurations.create(
            {"features": {"invoice_history": {"enabled": True}}}
        )
        get_client().v1.billing_portal.configurations.update(other.id, {"active": False})
        settings(portal_configuration_id=other.id)

    with pytest.raises(NotPublished):
        open_portal(organization, return_url=BACK)


def test_another_refusal_stays_stripe_s_own(sandbox, organization, configuration):
    with pytest.raises(StripeRejected) as refused:
        open_portal(organization, return_url="nowhere")
    assert refused.value.param == "return_url"


def test_stripe_being_down_is_said_so(sandbox, organization, configuration):
    sandbox.faults.add("rate_limit", path="/v1/billing_portal/sessions")

    with pytest.raises(StripeUnavailable):
        open_portal(organization, return_url=BACK)
