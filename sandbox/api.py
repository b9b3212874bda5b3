"""The API half of the application: from an HTTP request to a handler and back, as Stripe does it."""

import contextlib
import json
import logging
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, MapAdapter, Rule
from werkzeug.wrappers import Request, Response

from sandbox import keys, resources
from sandbox import v2 as v2_wire
from sandbox.errors import ApiError
from sandbox.faults import REQUEST_KINDS, ConnectionLost, Fault
from sandbox.idempotency import find_answer, keep_answer
from sandbox.ids import new_id
from sandbox.meters.inflight import InFlight
from sandbox.meters.metering_session import STREAM, check_token
from sandbox.params import read_table
from sandbox.render import expand
from sandbox.routing import Call, Endpoint
from sandbox.state import Origin, Sandbox
from sandbox.timeline import clock_of_request
from sandbox.wire import check_key, check_version, decode_pairs

if TYPE_CHECKING:
    from sandbox.contract.recorder import Recorder

log = logging.getLogger("sandbox")

FAILED = "An unknown error occurred"


# Made once: it costs forty times what an empty sandbox does.
ROUTES = Map(
    [Rule(each.path, methods=[each.method], endpoint=each) for each in resources.ENDPOINTS],
    strict_slashes=False,
    merge_slashes=False,
)


class Api:
    """Answers requests under /v1 and /v2. One request at a time holds the sandbox."""

    def __init__(self, sandbox: Sandbox, *, recorder: "Recorder | None" = None) -> None:
        self.sandbox = sandbox
        self.recorder = recorder
        self.in_flight = InFlight()

    def answer(self, request: Request, *, request_id: str) -> Response:
        """Return the response, errors included.

        Raises ConnectionLost where a fault takes the answer away, and werkzeug's HTTPException for a
        request too large to be read.
        """
        headers = {"Request-Id": request_id}
        v2 = request.path.startswith(v2_wire.PREFIX)
        keyed = request.method == "POST" or (v2 and request.method == "DELETE")
        key = request.headers.get("Idempotency-Key") if keyed else None
        if key:
            headers["Idempotency-Key"] = key
        raw: dict[str, Any] = {}
        fault = None
        try:
            self._check_access(request, headers, v2=v2)
            raw = self._decode(request, v2=v2)
            with self.in_flight.hold(key=key, path=request.path, raw=raw):
                fault = self._strike(request)
                chosen, args = self._route(request)
                status, body = self._run(
                    chosen, args, raw, request=request, headers=headers, key=key, fault=fault
                )
        except ApiError as error:
            status, body = error.status, _worded(error, request.path)
            headers.update(error.headers)
            if not raw:
                # Refused before it was read: the recorder checks what it carried all the same.
                with contextlib.suppress(ApiError):
                    raw = self._decode(request, v2=v2)
        except (ConnectionLost, HTTPException):
            raise
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            status, body = 500, _broken("The sandbox failed; its log says why. This is a bug in it.").body
        if self.recorder is not None:
            self.recorder.check_exchange(
                method=request.method,
                path=request.path,
                pairs=_pairs(request),
                sent=raw if v2 and request.method == "POST" else None,
                status=status,
                body=body,
            )
        if fault is not None and fault.kind == "timeout_after":
            raise ConnectionLost("the answer was lost, as a fault asked")
        return Response(
            json.dumps(body, indent=2), status=status, headers=headers, content_type="application/json"
        )

    def _check_access(self, request: Request, headers: dict[str, str], *, v2: bool) -> None:
        authorization = request.headers.get("Authorization")
        if request.path.rstrip("/") == STREAM:
            with self.sandbox.lock:
                check_token(self.sandbox, authorization)
        else:
            key = check_key(
                authorization,
                basic_user=request.authorization.username if request.authorization else None,
            )
            with self.sandbox.lock:
                keys.check(self.sandbox, key, method=request.method, path=request.path)
        headers["Stripe-Version"] = check_version(request.headers.get("Stripe-Version"), required=v2)
        self._check_account(request.headers.get("Stripe-Account"))

    def _check_account(self, account: str | None) -> None:
        if account and account != self.sandbox.account_id:
            raise ApiError(
                f"The provided key does not have access to account '{account}' (or that account does "
                "not exist). "
                "Application access may have been revoked.",
                status=403,
                code="account_invalid",
            )

    def _strike(self, request: Request) -> Fault | None:
        """Let a fault that comes before the change happen; return one that comes after it."""
        faults = self.sandbox.faults
        where = {"method": request.method, "path": request.path}
        slow = faults.strike("slow", **where)
        if slow is not None:
            faults.sleep(slow.seconds or 0)
        fault = faults.strike(*(kind for kind in REQUEST_KINDS if kind != "slow"), **where)
        if fault is None:
            return None
        if fault.kind == "timeout_before":
            raise ConnectionLost("the request was lost, as a fault asked")
        if fault.kind == "rate_limit":
            raise ApiError(
                "Request rate limit exceeded. Learn more about rate limits here: "
                "https://docs.stripe.com/rate-limits.",
                status=429,
                code="rate_limit",
                headers={"Stripe-Rate-Limited-Reason": "global-rate"},
            )
        if fault.kind == "server_error":
            raise _broken(FAILED)
        return fault

    def _route(self, request: Request) -> tuple[Endpoint, dict[str, str]]:
        adapter: MapAdapter = ROUTES.bind("", url_scheme="http")
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

    def _decode(self, request: Request, *, v2: bool) -> dict[str, Any]:
        if v2 and request.method == "POST":
            if request.args:
                raise ApiError("A POST under /v2 carries its parameters in its JSON body.")
            return v2_wire.decode_body(request.get_data(), mimetype=request.mimetype)
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
        fault: Fault | None,
    ) -> tuple[int, dict[str, Any]]:
        request_id, path = headers["Request-Id"], request.path

        def keep(state: Sandbox, status: int, body: dict[str, Any]) -> None:
            if key:
                keep_answer(
                    state, key, path=path, params=raw, status=status, body=body, request_id=request_id
                )

        with self.sandbox.lock:
            self.sandbox.run_due()
            if key:
                kept = find_answer(self.sandbox, key, path=path, params=raw)
                if kept is not None:
                    headers.update({"Idempotent-Replayed": "true", "Original-Request": kept["request_id"]})
                    return kept["status"], kept["body"]
            # A request that fails here never began, so its key stays free.
            params = read_table(raw, chosen.params)
            paths = params.pop("expand", [])
            clock = clock_of_request(self.sandbox, args, params)
            try:
                with self.sandbox.change(Origin(request_id, key)) as state, state.on_clock(clock):
                    call = Call(state=state, params=params, args=args, path=path, raw=raw)
                    result = chosen.handle(call)
                    if isinstance(result, ApiError):
                        status, body = result.status, _worded(result, path)
                        headers.update(result.headers)
                    else:
                        status, body = 200, expand(state, state.render(result), paths)
                    if fault is not None and fault.kind == "server_error_after":
                        status, body = 500, _worded(_broken(FAILED), path)
                    keep(state, status, body)
            except ApiError as error:
                # The change is undone; the answer to its key is kept all the same.
                with self.sandbox.change() as state:
                    keep(state, error.status, _worded(error, path))
                raise
        return status, body


def _worded(error: ApiError, path: str) -> dict[str, Any]:
    """Return an error's body as the version of the API words it that the path is of."""
    return v2_wire.error_body(error) if path.startswith(v2_wire.PREFIX) else error.body


def _broken(message: str) -> ApiError:
    return ApiError(message, status=500, type="api_error")


def _pairs(request: Request) -> list[tuple[str, str]]:
    pairs = list(request.args.items(multi=True))
    if request.method == "POST":
        pairs += list(request.form.items(multi=True))
    return pairs


def new_request_id(sandbox: Sandbox) -> str:
    return new_id("request", account=sandbox.account_id)
