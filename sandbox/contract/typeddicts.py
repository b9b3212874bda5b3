"""The second opinion: what stripe-python's TypedDicts say each endpoint takes."""

from __future__ import annotations

import ast
import functools
import importlib
import pathlib
import re
import types
import typing
from collections.abc import Iterator
from typing import Any

import stripe
from stripe import RequestOptions

from sandbox.contract.shapes import Shape

# Carried by the params of module-level calls beside Stripe's own parameters.
OPTIONS = frozenset(RequestOptions.__annotations__)


@functools.cache
def params_by_endpoint() -> dict[tuple[str, str], tuple[str, str]]:
    """Return (module, class) of the params of each (METHOD, path with {} for its arguments).

    Read from the source of stripe-python's services, which name method, path and params together.
    """
    found: dict[tuple[str, str], tuple[str, str]] = {}
    root = pathlib.Path(stripe.__file__).parent
    for source in sorted(root.rglob("*_service.py")):
        tree = ast.parse(source.read_text())
        modules = {
            alias.name: node.module
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("stripe.params")
            for alias in node.names
        }
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef):
                for method, path, name in _calls(function):
                    if name in modules:
                        found[method, path] = (modules[name], name)
    return found


def _calls(function: ast.FunctionDef) -> Iterator[tuple[str, str, str]]:
    wanted = next((each for each in function.args.args if each.arg == "params"), None)
    if wanted is None or wanted.annotation is None:
        return
    name = _text_in(wanted.annotation)
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("_request", "_request_search"):
            method, path = (_text_in(each) for each in node.args[:2])
            if name and method and path:
                yield method.upper(), without_names(path), name


def _text_in(node: ast.AST) -> str | None:
    texts = (each.value for each in ast.walk(node) if isinstance(each, ast.Constant))
    return next((each for each in texts if isinstance(each, str)), None)


def without_names(path: str) -> str:
    """Return a path with {} for each of its arguments, however they are written."""
    return re.sub(r"\{[^}]*\}|<[^>]*>", "{}", path)


def find_shape(method: str, path: str) -> Shape | None:
    """Return what stripe-python says an endpoint takes, None where it has no method for it."""
    found = params_by_endpoint().get((method, without_names(path)))
    if found is None:
        return None
    shape = _hint_shape(getattr(importlib.import_module(found[0]), found[1]))
    for name in OPTIONS:
        shape.fields.pop(name, None)
    return shape


def _hint_shape(hint: Any) -> Shape:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    shape = Shape()
    if typing.is_typeddict(hint):
        hints = typing.get_type_hints(hint, localns={"StripeContext": object})
        shape.fields = {name: _hint_shape(each) for name, each in hints.items()}
    elif origin is typing.Literal:
        shape.words = frozenset(each for each in arguments if each)
    elif origin in (typing.Union, types.UnionType):
        for each in arguments:
            if each is not type(None):
                shape.add(_hint_shape(each))
    elif origin is list:
        shape.item = _hint_shape(arguments[0])
    elif origin is dict or origin is not None:
        shape.free = True
    else:
        shape.plain = True
    return shape
