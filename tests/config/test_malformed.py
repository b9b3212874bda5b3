"""What no page has a use for: an address with a NUL, which PostgreSQL takes none of, and headers that are none."""

import pytest
from django.test import RequestFactory

from config.wsgi import application
from tests.billing.staffing import staff

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    "path",
    [
        "/admin/usage/meterreport/?rejection_code=%00",
        "/admin/usage/meterreport/?rejection_code__exact=a%00b",
        "/admin/usage/meterreport/?%00=1",
        "/admin/usage/meterreport/%00/change/",
    ],
)
def test_the_back_office_refuses_a_nul_in_an_address(path):
    browser = staff("view_meterreport")
    browser.raise_request_exception = False

    assert browser.get("/admin/usage/meterreport/?rejection_code=a").status_code == 200
    assert browser.get(path).status_code == 400


@pytest.mark.parametrize("path", ["/dashboard/usage/?by=%00", "/pricing/?currency=%00", "/docs/%00"])
def test_a_customer_s_page_has_an_answer_of_its_own(browser, path):
    assert browser.get(path).status_code in {200, 404}


def test_the_api_says_which_parameter_is_wrong(browser):
    answer = browser.get("/api/v1/usage/timeseries?group_by=%00")

    assert answer.status_code == 400
    assert "group_by" in answer.content.decode()


@pytest.mark.parametrize("content_type", ["application/json; x*=nonsense''y", "text/html; charset*=1''x"])
def test_a_content_type_that_cannot_be_read_is_none(content_type):
    environ = RequestFactory()._base_environ(PATH_INFO="/healthz", CONTENT_TYPE=content_type)
    answered = []

    list(application(environ, lambda status, headers: answered.append(status)))

    assert answered == ["200 OK"]
    assert environ["CONTENT_TYPE"] == ""
