"""What tests of the events' endpoint share."""

import json
from typing import Any

from django.test import Client

from apikeys.models import ServiceToken
from tests.apikeys.cast import service_token

ADDRESS = "/api/v1/events"


class Sender:
    """One of the operator's services."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.token = service_token(ServiceToken.Scope.EVENTS)

    def __call__(
        self,
        content: Any,
        content_type: str = "application/json",
        authorization: str | None = None,
        **headers: str,
    ) -> Any:
        """Post bytes as they are, and all else as JSON. An underscore in a header's name stands for a hyphen."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if authorization is None:
            authorization = f"Bearer {self.token}"
        if authorization:
            named["Authorization"] = authorization
        return self.client.post(ADDRESS, body, content_type=content_type, headers=named)


def results(response: Any) -> list[str]:
    """Return in short what became of each: accepted, duplicate, or the code of its refusal."""
    assert response.status_code == 200, response.content
    return [each["code"] or each["status"] for each in response.json()["results"]]
