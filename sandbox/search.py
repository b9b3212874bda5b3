"""The part of Stripe's search language that is in use: `email:'x'`, `name~'y'`, `metadata['k']:'v'`."""

import re

from sandbox.errors import ApiError
from sandbox.routing import Call
from sandbox.store import Object

_CLAUSE = re.compile(
    r"""\s*(?P<not>-)?(?P<field>\w+)(\[(?P<kq>['"])(?P<key>(?:\\.|(?!(?P=kq)).)+)(?P=kq)\])?"""
    r"""\s*(?P<op>[:~])\s*((?P<vq>['"])(?P<value>(?:\\.|(?!(?P=vq)).)*)(?P=vq)|(?P<null>null))\s*""",
    re.IGNORECASE,
)


def search(call: Call, objects: list[Object], *, fields: tuple[str, ...]) -> Object:
    """Return a search page over objects given newest first. Raises ApiError for a query it cannot read."""
    clauses, joint = _parse(call.params["query"], fields=fields)
    every = all if joint == "AND" else any
    found = [each for each in objects if every(_matches(each, clause) for clause in clauses)]
    limit = call.params.get("limit", 10)
    if not 1 <= limit <= 100:
        raise ApiError("Invalid limit: must be between 1 and 100.", param="limit")
    page = call.params.get("page", "0")
    if not page.isdigit():
        raise ApiError("Invalid page.", param="page")
    start = int(page)
    more = len(found) > start + limit
    return {
        "object": "search_result",
        "data": found[start : start + limit],
        "has_more": more,
        "next_page": str(start + limit) if more else None,
        "url": call.path,
    }


def _parse(query: str, *, fields: tuple[str, ...]) -> tuple[list[re.Match[str]], str]:
    clauses: list[re.Match[str]] = []
    joints: set[str] = set()
    position = 0
    while position < len(query):
        match = _CLAUSE.match(query, position)
        if match is None or (match["field"] != "metadata" if match["key"] else match["field"] not in fields):
            raise ApiError("We were unable to parse your search query.", param="query")
        clauses.append(match)
        position = match.end()
        joint = re.compile(r"(AND|OR)\s", re.IGNORECASE).match(query, position)
        if joint:
            joints.add(joint[1].upper())
            position = joint.end()
            if position >= len(query):
                raise ApiError("We were unable to parse your search query.", param="query")
    if not clauses or len(joints) > 1:
        raise ApiError(
            "We were unable to parse your search query: it may use AND or OR, not both.", param="query"
        )
    return clauses, joints.pop() if joints else "AND"


def _matches(obj: Object, clause: re.Match[str]) -> bool:
    actual = obj["metadata"].get(clause["key"]) if clause["key"] else obj.get(clause["field"])
    if clause["null"]:
        hit = actual is None
    else:
        wanted = re.sub(r"\\(.)", r"\1", clause["value"]).lower()
        held = str(actual).lower() if actual is not None else None
        hit = held is not None and (wanted in held if clause["op"] == "~" else wanted == held)
    return hit is not bool(clause["not"])
