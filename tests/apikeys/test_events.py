"""POST /api/v1/events: usage that the operator's own services tell of."""

import json

import pytest

from apikeys.models import ServiceToken
from tests.apikeys.cast import service_token
from tests.usage.ingesting import event
from usage.models import UsageEvent, UsageRollup

pytestmark = pytest.mark.django_db

ADDRESS = "/api/v1/events"


@pytest.fixture
def post(client, organization):
    token = service_token(ServiceToken.Scope.EVENTS)

    def post(content, content_type="application/json", authorization=f"Bearer {token}", **headers):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if authorization:
            headers["Authorization"] = authorization
        return client.post(ADDRESS, body, content_type=content_type, headers=headers)

    return post


def test_an_event_is_in_the_ledger_when_the_answer_comes(post, organization):
    response = post({"events": [event(organization, "job-1", value=25)]})

    assert response.status_code == 200
    assert response["Cache-Control"] == "no-store"
    assert response.json() == {
        "accepted": 1,
        "duplicates": 0,
        "refused": 0,
        "results": [{"index": 0, "id": "job-1", "status": "accepted", "code": None, "detail": None}],
    }
    stored = UsageEvent.objects.get()
    assert (stored.units, stored.meter, stored.organization_id) == (25, "requests", organization.pk)
    assert (stored.endpoint, stored.method, stored.status, stored.response_ms) == ("service", "", 0, 0)
    assert UsageRollup.objects.units() == 25
