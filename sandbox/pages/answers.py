"""Answers that are not pages."""

import json
from typing import Any

from werkzeug.wrappers import Request, Response


def as_json(data: Any, *, status: int = 200) -> Response:
    return Response(json.dumps(data, indent=2), status=status, content_type="application/json")


def wants_page(request: Request) -> bool:
    """Return whether a browser asks, rather than a program."""
    return request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html"
