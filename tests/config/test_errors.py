import pytest
from django.urls import path

from accounts.models import Organization
from billing.receivers import entitle_new_organization
from config.environment import celery_broker_url
from config.urls import handler500  # noqa: F401  # Django looks handler500 up here.
from config.urls import urlpatterns as real_urlpatterns

pytestmark = pytest.mark.django_db


def broken(request):
    raise RuntimeError("a bug")


urlpatterns = [path("api/broken", broken), path("broken", broken), *real_urlpatterns]


@pytest.fixture(autouse=True)
def views_that_fail(settings, client):
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = [m for m in settings.MIDDLEWARE if "LoginRequired" not in m]
    client.raise_request_exception = False


def test_a_program_gets_a_problem_where_a_person_gets_a_page(client):
    program, person = client.get("/api/broken"), client.get("/broken")

    assert (program.status_code, program.json()["code"]) == (500, "server_error")
    assert program["Content-Type"] == "application/problem+json"
    assert (person.status_code, person["Content-Type"][:9]) == (500, "text/html")
    assert "a bug" not in person.content.decode() + program.content.decode()


@pytest.mark.parametrize("method", ["get", "post", "delete"])
def test_an_address_that_the_api_does_not_have_is_a_problem(client, method):
    answer = getattr(client, method)("/api/v1/nothing/here")

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert answer["Content-Type"] == "application/problem+json"


def until_refused(call, *, rate: int) -> list:
    """Return the answers up to the first 429. The minute may turn over once meanwhile, and allow `rate` more."""
    answers = []
    for _ in range(2 * rate + 1):
        answers.append(call())
        if answers[-1].status_code == 429:
            break
    return answers


def test_too_many_anonymous_calls_get_429_and_not_403(client, plans):
    *admitted, refused = until_refused(lambda: client.get("/api/v1/plans"), rate=60)

    assert len(admitted) >= 60
    assert ({answer.status_code for answer in admitted}, refused.status_code) == ({200}, 429)
    assert refused.json()["code"] == "too_many_requests"


def test_too_many_checkouts_get_a_page_with_429(browser, plans):
    *admitted, refused = until_refused(
        lambda: browser.post("/dashboard/billing/checkout/", {"plan": "none"}), rate=20
    )

    assert len(admitted) >= 20
    assert ({answer.status_code for answer in admitted}, refused.status_code) == ({404}, 429)


@pytest.mark.parametrize(
    ("ours", "celery_s"),
    [
        ("redis://127.0.0.1:6379/2", "redis://127.0.0.1:6379/2"),
        ("unix:///run/redis.sock", "redis+socket:///run/redis.sock?virtual_host=0"),
        ("unix:///run/redis.sock?db=3", "redis+socket:///run/redis.sock?virtual_host=3"),
    ],
)
def test_celery_is_told_of_the_same_redis_in_its_own_words(ours, celery_s):
    assert celery_broker_url(ours) == celery_s


def test_a_new_organization_s_customer_is_asked_for_through_the_broker(
    redis, organization, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        Organization.objects.filter(pk=organization.pk).update(name="Acme")
        organization.entitlement.delete()
        entitle_new_organization(Organization, organization)

    (message,) = redis.lrange("celery", 0, -1)
    assert "billing.tasks.ensure_customer_of" in message


def test_docs_leads_to_the_api_s_documentation(client):
    answer = client.get("/docs/", follow=True)

    assert answer.redirect_chain == [("/api/docs/", 302)]
    assert answer.status_code == 200
