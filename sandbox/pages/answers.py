"""Answers that are not pages."""

import json
from typing import Any

from werkzeug.wrappers import Response


def as_json(data: Any, *, status: int = 200) -> Response:
    return Response(json.dumps(data, indent=2), status=status, content_type="application/json")
