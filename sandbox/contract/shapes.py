"""Parameters in one common form, whoever tells of them, so that three sources can be compared.

The sources are the sandbox's own tables, Stripe's document and the TypedDicts of stripe-python.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sandbox import params as own
from sandbox.contract.spec import Schema, Spec


@dataclass
class Shape:
    """What one parameter may be: any of a hash with these fields, a list of these, one of these words.

    `words` is None where any text, or a number, is taken. `refused` says that the sandbox names the
    parameter only to refuse it. `free` is a hash with keys of the caller's own.
    """

    fields: dict[str, Shape] = field(default_factory=dict)
    item: Shape | None = None
    words: frozenset[str] | None = None
    refused_words: frozenset[str] = frozenset()
    plain: bool = False
    free: bool = False
    refused: bool = False

    def add(self, other: Shape) -> None:
        """Widen this shape by what another one takes."""
        for name, each in other.fields.items():
            self.fields.setdefault(name, Shape()).add(each)
        if other.item is not None:
            self.item = self.item or Shape()
            self.item.add(other.item)
        if other.words is not None:
            self.words = (self.words or frozenset()) | other.words
        self.refused_words |= other.refused_words
        self.plain |= other.plain
        self.free |= other.free
        self.refused |= other.refused


def table_shape(table: own.Table) -> Shape:
    """Return the shape of one of the sandbox's parameter tables."""
    return Shape(fields={name.rstrip("!"): type_shape(each) for name, each in table.items()})


def type_shape(kind: own.Type) -> Shape:  # noqa: PLR0911  (one return a type)
    """Return the shape of one of the sandbox's parameter types."""
    match kind:
        case own.Unsupported():
            return Shape(refused=True)
        case own.Obj():
            return table_shape(kind.table)
        case own.ListOf():
            return Shape(item=type_shape(kind.item))
        case own.EmptyOr():
            return type_shape(kind.type)
        case own.OneOf():
            shape = Shape()
            for each in kind.types:
                shape.add(type_shape(each))
            return shape
        case own.Choice():
            return Shape(words=frozenset(kind.values[:1]), refused_words=frozenset(kind.values[1:]))
        case own.Enum():
            return Shape(words=frozenset(kind.values))
        case own.Strings() | own.Metadata():
            return Shape(free=True)
        case own.Bool():
            return Shape(plain=True, words=frozenset())
    return Shape(plain=True)


def document_shape(spec: Spec, fields: Mapping[str, Schema]) -> Shape:
    """Return the shape of a set of parameters in Stripe's document."""
    return Shape(fields={name: schema_shape(spec, each) for name, each in fields.items()})


def schema_shape(spec: Spec, schema: Schema) -> Shape:
    """Return the shape of one schema of Stripe's document."""
    schema = spec.resolve(schema)
    shape = Shape()
    for branch in schema.get("anyOf", []):
        shape.add(schema_shape(spec, branch))
    kind = schema.get("type")
    if kind == "object":
        shape.add(document_shape(spec, schema.get("properties", {})))
        shape.free |= isinstance(schema.get("additionalProperties"), dict)
    elif kind == "array":
        shape.add(Shape(item=schema_shape(spec, schema["items"])))
    elif "enum" in schema:
        shape.add(Shape(words=frozenset(schema["enum"]) - {""}))
    elif kind is not None:
        shape.plain = True
    return shape


@dataclass(frozen=True)
class Gap:
    """One disagreement about a parameter, for people."""

    name: str
    what: str

    def __str__(self) -> str:
        return f"{self.name}: {self.what}"


def unnamed(ours: Shape, theirs: Shape, *, name: str = "") -> Iterator[Gap]:
    """Yield what another source knows and the sandbox neither takes nor names as unsupported."""
    if ours.refused or ours.free:
        return
    for each, shape in theirs.fields.items():
        full = f"{name}[{each}]" if name else each
        if each in ours.fields:
            yield from unnamed(ours.fields[each], shape, name=full)
        else:
            yield Gap(full, "is not in our table")
    if theirs.item is not None:
        if ours.item is None:
            yield Gap(name, "is no list in our table")
        else:
            yield from unnamed(ours.item, theirs.item, name=f"{name}[]")
    if theirs.words and not ours.plain:
        for word in sorted(theirs.words - (ours.words or frozenset()) - ours.refused_words):
            yield Gap(name, f"may be {word!r}, which our table leaves out")


def unheard_of(ours: Shape, *theirs: Shape, name: str = "") -> Iterator[Gap]:
    """Yield what the sandbox takes, or names as unsupported, and no other source knows."""
    if any(each.free for each in theirs):
        return
    for each, shape in ours.fields.items():
        full = f"{name}[{each}]" if name else each
        known = [other.fields[each] for other in theirs if each in other.fields]
        if known:
            yield from unheard_of(shape, *known, name=full)
        else:
            yield Gap(full, "is in our table alone")
    items = [each.item for each in theirs if each.item is not None]
    if ours.item is not None:
        if items:
            yield from unheard_of(ours.item, *items, name=f"{name}[]")
        else:
            yield Gap(name, "is a list in our table alone")
    words = frozenset[str]().union(*(each.words or () for each in theirs))
    if words or not any(each.plain for each in theirs):
        plain = any(each.plain for each in theirs)
        for word in sorted((ours.words or frozenset()) | ours.refused_words):
            if word not in words and not plain:
                yield Gap(name, f"may be {word!r} in our table alone")
