"""The body of a request that sends events: read within bounds, unpacked, and taken apart."""

import json
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from django.http import HttpRequest, UnreadablePostError
from django.utils.http import parse_header_parameters

from apikeys.problems import Problem
from billing.api.problems import OTHERS
from usage.ingest.items import Item
from usage.ingest.reading import DIGITS, read_cloud, read_plain

MOST = 1000  # Events a call.
SIZE = 4 * 2**20  # Bytes of a body, as it is sent and unpacked.
ITEM_SIZE = 64 * 2**10  # Of one CloudEvent: what everybody who passes them on takes (CloudEvents 1.0.2, 5.).
JSON, CLOUD_EVENT, CLOUD_BATCH = (
    "application/json",
    "application/cloudevents+json",
    "application/cloudevents-batch+json",
)
GZIP_WINDOW = 16 + zlib.MAX_WBITS
MOST_MEMBERS = 100
# What binary mode has in headers, percent-encoded (CloudEvents HTTP binding, 3.1.3).
ATTRIBUTES = ("specversion", "id", "source", "type", "subject", "time")
# As older senders have it, which do not encode spaces (RFC 9110, 5.6.4).
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')


class Sent(NamedTuple):
    """What was sent, event by event as JSON has it, and what reads one."""

    events: list[Any]
    read: Callable[[Any], Item]
    size: int  # Bytes, unpacked.


def read_request(request: HttpRequest) -> Sent:
    """Return the events of a request. Raises Problem where it is not readable as a whole."""
    content_type, _ = parse_header_parameters(request.META.get("CONTENT_TYPE", ""))
    is_binary = "HTTP_CE_SPECVERSION" in request.META and not content_type.startswith(
        "application/cloudevents"
    )
    if not is_binary and content_type not in {JSON, CLOUD_EVENT, CLOUD_BATCH}:
        raise problem("unsupported_media_type", headers={"Accept": f"{JSON}, {CLOUD_EVENT}, {CLOUD_BATCH}"})
    body = unpack(read_body(request), request.META.get("HTTP_CONTENT_ENCODING", ""))
    if is_binary:
        return Sent([binary_event(request.META, content_type, body)], read_cloud, len(body))
    content = parse(body)
    if content_type == CLOUD_EVENT:
        return Sent([content], read_cloud, len(body))
    is_cloud = content_type == CLOUD_BATCH
    events = listed(content, is_cloud=is_cloud)
    if len(events) > MOST:
        raise too_large(f"{len(events):,} events came at once: {MOST:,} is the most.")
    return Sent(events, read_cloud if is_cloud else read_plain, len(body))


def listed(content: Any, *, is_cloud: bool) -> list[Any]:
    """Return the events of a body with several, or of plain JSON with one."""
    if isinstance(content, list):
        return content
    if is_cloud:
        raise invalid("A batch of CloudEvents is a JSON array.")
    if not isinstance(content, dict):
        raise invalid("Send an event, an array of events, or an object with `events`.")
    if "events" not in content:
        return [content]
    if len(content) > 1:
        raise invalid("Beside `events` there is no other field.")
    if not isinstance(content["events"], list):
        raise invalid("`events` has to be an array.")
    events: list[Any] = content["events"]
    return events


def binary_event(headers: Mapping[str, Any], content_type: str, body: bytes) -> dict[str, Any]:
    """Return the CloudEvent whose attributes are in headers and whose data is the body."""
    event: dict[str, Any] = {}
    for name in ATTRIBUTES:
        value = headers.get(f"HTTP_CE_{name.upper()}")
        if value is not None:
            try:
                event[name] = unquote_to_bytes(unescaped(value).encode("latin-1")).decode()
            except UnicodeDecodeError as error:
                raise invalid(f"The header ce-{name} is no UTF-8.") from error
    # Data of other kinds is the sender's own: it has no value for us.
    if body and (content_type == JSON or content_type.endswith("+json")):
        event["data"] = parse(body)
    return event


def unescaped(value: str) -> str:
    """Return a header's value without the quotes around it and the backslashes in them."""
    quoted = QUOTED.fullmatch(value)
    return re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else value


def is_oversized(event: Any) -> bool:
    try:
        shortest = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
        return len(shortest.encode(errors="surrogatepass")) > ITEM_SIZE
    except RecursionError:
        return True


def read_body(request: HttpRequest) -> bytes:
    if "chunked" in request.META.get("HTTP_TRANSFER_ENCODING", "").lower():
        raise problem("length_required")
    try:
        body = request.read(SIZE + 1)
    except UnreadablePostError as error:
        raise invalid("The body broke off.") from error
    if len(body) > SIZE:
        raise too_large(f"The body is larger than {SIZE:,} bytes.")
    return body


def unpack(body: bytes, encoding: str) -> bytes:
    match encoding.strip().lower():
        case "" | "identity":
            return body
        case "gzip" | "x-gzip":
            return gunzip(body)
        case _:
            # RFC 9110, 15.5.16.
            raise problem("unsupported_encoding", headers={"Accept-Encoding": "gzip"})


def gunzip(body: bytes) -> bytes:
    """Return what was packed, and never more of it than SIZE, however small it was made."""
    found, rest, members = b"", body, 0
    while rest:
        members += 1
        if members > MOST_MEMBERS:
            # Each copies what is left of the body.
            raise invalid(f"The body is gzip of more than {MOST_MEMBERS} members.")
        member = zlib.decompressobj(GZIP_WINDOW)
        try:
            found += member.decompress(rest, SIZE + 1 - len(found))
        except zlib.error as error:
            raise invalid("The body is no gzip.") from error
        if len(found) > SIZE:
            raise too_large(f"Unpacked, the body is larger than {SIZE:,} bytes.")
        if not member.eof:
            raise invalid("The body is gzip that breaks off.")
        rest = member.unused_data  # Another member follows (RFC 1952, 2.2).
    return found


def parse(body: bytes) -> Any:
    try:
        return json.loads(body, parse_int=whole)
    except RecursionError as error:
        raise invalid("The body is JSON that is nested too deeply.") from error
    except ValueError as error:
        raise invalid(f"The body is no JSON: {error}.") from error


def whole(digits: str) -> int:
    # Beyond what any value may have it only matters that there are too many: reading them all takes long.
    return int(digits[: DIGITS + 2])


def invalid(detail: str) -> Problem:
    return problem("invalid", detail)


def too_large(detail: str) -> Problem:
    return problem("content_too_large", detail)


def problem(code: str, detail: str = "", *, headers: Mapping[str, str] | None = None) -> Problem:
    """Return what the schema has under `code`, with this sentence or the one it has there."""
    kind, sentence, members = OTHERS[code]
    return Problem(
        status=kind.status,
        code=kind.code,
        title=kind.title,
        detail=detail or sentence,
        headers=headers,
        retry_after=members.get("retry_after"),
    )
