"""Stripe's search language: `email:'x' AND -name~'y'`, `metadata['k']:'v'`, `total>1000`, `-phone:null`."""

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from sandbox.errors import ApiError
from sandbox.routing import Call
from sandbox.store import Object

# What a field holds: text is matched whole or in part, a token only whole, a number is compared.
Fields = Mapping[str, str]
OPERATORS = {"text": (":", "~"), "token": (":",), "number": (":", ">", "<", ">=", "<=")}
NUMBERS = frozenset({"amount", "canceled_at", "created", "total"})
MOST_CLAUSES = 10
SHORTEST_PART = 3

_CLAUSE = re.compile(
    r"""(?P<not>-)?(?P<field>[\w.]+)(\[(?P<kq>['"])(?P<key>(?:\\.|(?!(?P=kq)).)+)(?P=kq)\])?"""
    r"""\s*(?P<op>>=|<=|[:~<>])\s*"""
    r"""((?P<vq>['"])(?P<value>(?:\\.|(?!(?P=vq)).)*)(?P=vq)|(?P<null>null)|(?P<number>-?\d+(\.\d+)?))"""
    r"""(?=\s|$)""",
    re.IGNORECASE,
)
_JOINT = re.compile(r"(AND|OR)(?=\s|$)", re.IGNORECASE)
_SPACE = re.compile(r"\s*")


def search(call: Call, objects: list[Object], *, fields: Fields | Iterable[str]) -> Object:
    """Return a search page over objects given newest first. Raises ApiError for a query it cannot read.

    `fields` says what each field holds: text, token or number. As bare names, they are all text but for
    those that are known to be numbers.
    """
    if not isinstance(fields, Mapping):
        fields = {each: "number" if each in NUMBERS else "text" for each in fields}
    resource = call.path.split("/")[-2]
    clauses, joint = _parse(call.params["query"], fields=fields, resource=resource)
    every = all if joint == "AND" else any
    found = [each for each in objects if every(_matches(each, clause) for clause in clauses)]
    limit = call.params.get("limit", 10)
    if not 1 <= limit <= 100:
        raise ApiError("Invalid limit: must be between 1 and 100.", param="limit")
    page = call.params.get("page", "0")
    if not re.fullmatch("[0-9]{1,9}", page):
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


def _parse(query: str, *, fields: Fields, resource: str) -> tuple[list[re.Match[str]], str]:
    clauses: list[re.Match[str]] = []
    joints: set[str] = set()
    position, wanting = _skip(query, 0), True
    while position < len(query):
        joint = None if wanting else _JOINT.match(query, position)
        if joint:
            joints.add(joint[1].upper())
            position, wanting = _skip(query, joint.end()), True
            continue
        clause = _CLAUSE.match(query, position)
        if clause is None:
            raise _unreadable()
        _check(clause, fields=fields, resource=resource)
        if clauses and not wanting:
            joints.add("AND")
        clauses.append(clause)
        position, wanting = _skip(query, clause.end()), False
    if wanting:
        raise _unreadable()
    if len(joints) > 1:
        raise ApiError("You can't combine AND and OR operators in one search query.", param="query")
    if len(clauses) > MOST_CLAUSES:
        raise ApiError(f"A search query can have at most {MOST_CLAUSES} clauses.", param="query")
    return clauses, joints.pop() if joints else "AND"


def _skip(query: str, position: int) -> int:
    match = _SPACE.match(query, position)
    return match.end() if match else position


def _check(clause: re.Match[str], *, fields: Fields, resource: str) -> None:
    name, operator = clause["field"], clause["op"]
    if (name == "metadata") is not bool(clause["key"]) or (name != "metadata" and name not in fields):
        raise ApiError(
            f"Field `{name}` is an unsupported search field for resource `{resource}`.", param="query"
        )
    kind = "token" if name == "metadata" else fields[name]
    if operator not in OPERATORS[kind]:
        raise ApiError(f"The operator `{operator}` cannot be used with the field `{name}`.", param="query")
    if clause["null"]:
        if operator != ":":
            raise _unreadable()
    elif kind == "number":
        if not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", clause["number"] or clause["value"] or ""):
            raise ApiError(f"The field `{name}` is compared with a number.", param="query")
    elif clause["number"]:
        raise _unreadable()
    if operator == "~" and len(clause["value"]) < SHORTEST_PART:
        raise ApiError(
            f"A part of a text to search for must be at least {SHORTEST_PART} characters long.", param="query"
        )


def _unreadable() -> ApiError:
    return ApiError(
        'We were unable to parse your search query. Try using the format `metadata["key"]:"value"` to '
        'query for metadata or key:"value" to query for other fields.',
        param="query",
    )


def _matches(obj: Object, clause: re.Match[str]) -> bool:
    actual = obj["metadata"].get(_plain(clause["key"])) if clause["key"] else obj.get(clause["field"])
    return _holds(actual, clause) is not bool(clause["not"])


def _holds(actual: Any, clause: re.Match[str]) -> bool:
    if clause["null"]:
        return actual is None
    if actual is None:
        return False
    if isinstance(actual, int) and not isinstance(actual, bool):
        number, wanted = Decimal(actual), Decimal(clause["number"] or clause["value"])
        compare = {
            ":": number.__eq__,
            ">": number.__gt__,
            "<": number.__lt__,
            ">=": number.__ge__,
            "<=": number.__le__,
        }
        return bool(compare[clause["op"]](wanted))
    held, text = str(actual).lower(), _plain(clause["value"]).lower()
    return text in held if clause["op"] == "~" else text == held


def _plain(quoted: str) -> str:
    return re.sub(r"\\(.)", r"\1", quoted)
