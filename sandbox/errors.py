"""Stripe's error answers as one exception family; `ApiError.body` is what goes on the wire."""

from typing import Any

DOCS = "https://docs.stripe.com/error-codes#"


class ApiError(Exception):
    """A refusal. The change in progress is undone unless the handler returns the error instead."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        type: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        error: dict[str, Any] = {"message": message, "type": type}
        if code:
            error["code"] = code
            error["doc_url"] = DOCS + code.replace("_", "-")
        if param:
            error["param"] = param
        error.update({name: value for name, value in extra.items() if value is not None})
        self.body = {"error": dict(sorted(error.items()))}


def missing_resource(noun: str, identifier: str, *, param: str = "id", status: int = 404) -> ApiError:
    return ApiError(f"No such {noun}: '{identifier}'", status=status, code="resource_missing", param=param)


def missing_parameter(name: str) -> ApiError:
    return ApiError(f"Missing required param: {name}.", code="parameter_missing", param=name)


def unknown_parameter(*names: str) -> ApiError:
    noun = "parameter" if len(names) == 1 else "parameters"
    message = f"Received unknown {noun}: {', '.join(names)}"
    return ApiError(message, code="parameter_unknown", param=names[0])


def unsupported_parameter(name: str) -> ApiError:
    """Stripe takes this parameter, the sandbox does not: say so rather than ignore it."""
    return ApiError(
        f"The sandbox does not support the parameter {name} (Stripe does).",
        code="sandbox_unsupported",
        param=name,
    )
