"""The API half of the application: from an HTTP request to a handler and back, as Stripe does it."""

import json
import logging
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, MapAdapter, Rule
from werkzeug.wrappers import Request, Response

from sandbox import resources
from sandbox.errors import ApiError
from sandbox.idempotency import find_answer, keep_answer
from sandbox.ids import new_id
from sandbox.params import read_table
from sandbox.render import expand
from sandbox.routing import Call, Endpoint
from sandbox.state import Origin, Sandbox
from sandbox.timeline import clock_of_request
from sandbox.wire import check_key, check_version, decode_pairs

if TYPE_CHECKING:
    from sandbox.contract.recorder import Recorder

log = logging.getLogger("sandbox")


class Api:
    """Answers requests under /v1. One request at a time holds the sandbox."""

    def __init__(self, sandbox: Sandbox, *, recorder: "Recorder | None" = None) -> None:
        self.sandbox = sandbox
        self.recorder = recorder
        self.endpoints = resources.ENDPOINTS
        # Registration order settles which of two equal rules wins, so plain words precede `<id>`.
        self.routes = Map(
            [Rule(each.path, methods=[each.method], endpoint=each) for each in self.endpoints],
            strict_slashes=False,
            merge_slashes=False,
        )

    def answer(self, request: Request, *, request_id: str) -> Response:
        """Return the response, errors included: this never raises for anything a request can hold."""
        headers = {"Request-Id": request_id}
        key = request.headers.get("Idempotency-Key") if request.method == "POST" else None
        if key:
            headers["Idempotency-Key"] = key
        raw: dict[str, Any] = {}
        try:
            check_key(
                request.headers.get("Authorization"),
                basic_user=request.authorization.username if request.authorization else None,
            )
            headers["Stripe-Version"] = check_version(request.headers.get("Stripe-Version"))
            self._check_account(request.headers.get("Stripe-Account"))
            chosen, args = self._route(request)
            raw = self._decode(request)
            status, body = self._run(chosen, args, raw, request=request, headers=headers, key=key)
        except ApiError as error:
            status, body = error.status, error.body
            headers.update(error.headers)
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            status = 500
            body = {
                "error": {
                    "message": "The sandbox failed; its log says why. This is a bug in it.",
                    "type": "api_error",
                }
            }
        if self.recorder is not None:
            self.recorder.check_exchange(
                method=request.method, path=request.path, pairs=_pairs(request), status=status, body=body
            )
        return Response(
            json.dumps(body, indent=2), status=status, headers=headers, content_type="application/json"
        )

    def _check_account(self, account: str | None) -> None:
        if account and account != self.sandbox.account_id:
            raise ApiError(
                f"The provided key does not have access to account '{account}' (or that account does "
                "not exist). "
                "Application access may have been revoked.",
                status=403,
                code="account_invalid",
            )

    def _route(self, request: Request) -> tuple[Endpoint, dict[str, str]]:
        adapter: MapAdapter = self.routes.bind("", url_scheme="http")
        try:
            chosen, args = adapter.match(request.path, method=request.method)
        except HTTPException:
            raise ApiError(
                f"Unrecognized request URL ({request.method}: {request.path}). The sandbox supports a "
                "part of "
                "Stripe's API; its README lists which.",
                status=404,
            ) from None
        return chosen, dict(args)

    def _decode(self, request: Request) -> dict[str, Any]:
        if request.method == "POST" and request.mimetype == "application/json":
            raise ApiError("Requests under /v1 carry form-encoded parameters, not JSON.")
        return decode_pairs(_pairs(request))

    def _run(
        self,
        chosen: Endpoint,
        args: dict[str, str],
        raw: dict[str, Any],
        *,
        request: Request,
        headers: dict[str, str],
        key: str | None,
    ) -> tuple[int, dict[str, Any]]:
        request_id = headers["Request-Id"]
        with self.sandbox.lock:
            self.sandbox.run_due()
            if key:
                kept = find_answer(self.sandbox, key, path=request.path, params=raw)
                if kept is not None:
                    headers.update({"Idempotent-Replayed": "true", "Original-Request": kept["request_id"]})
                    return kept["status"], kept["body"]
            # A request that fails here never began, so its key stays free.
            params = read_table(raw, chosen.params)
            paths = params.pop("expand", [])
            clock = clock_of_request(self.sandbox, args, params)
            try:
                with self.sandbox.change(Origin(request_id, key)) as state, state.on_clock(clock):
                    call = Call(state=state, params=params, args=args, path=request.path)
                    result = chosen.handle(call)
                    if isinstance(result, ApiError):
                        status, body = result.status, result.body
                        headers.update(result.headers)
                    else:
                        status, body = 200, expand(state, state.render(result), paths)
                    if key:
                        keep_answer(
                            state,
                            key,
                            path=request.path,
                            params=raw,
                            status=status,
                            body=body,
                            request_id=request_id,
                        )
            except ApiError as error:
                # The change is undone; the answer to its key is kept all the same.
                if key:
                    with self.sandbox.change() as state:
                        keep_answer(
                            state,
                            key,
                            path=request.path,
                            params=raw,
                            status=error.status,
                            body=error.body,
                            request_id=request_id,
                        )
                raise
        return status, body


def _pairs(request: Request) -> list[tuple[str, str]]:
    pairs = list(request.args.items(multi=True))
    if request.method == "POST":
        pairs += list(request.form.items(multi=True))
    return pairs


def new_request_id(sandbox: Sandbox) -> str:
    return new_id("request", account=sandbox.account_id)
