"""The lists in the README: of endpoints and parameters, from the tables themselves, and of differences.

python -m sandbox.listing writes it anew.
"""

import pathlib
from collections.abc import Iterable, Iterator

import sandbox.api  # noqa: F401  (imports every resource, which registers its endpoints)
from sandbox.contract.shapes import Shape, table_shape
from sandbox.differences import as_markdown
from sandbox.params import EXPAND, PAGE
from sandbox.routing import ENDPOINTS, Endpoint

README = pathlib.Path(__file__).with_name("README.md")
BEGIN = "<!-- Written by python -m sandbox.listing -->"
END = "<!-- End of what python -m sandbox.listing writes -->"


def listing() -> str:
    """Return the list as Markdown, a folded table a group of endpoints."""
    groups: dict[str, list[Endpoint]] = {}
    for each in ENDPOINTS:
        groups.setdefault(_group(each.path), []).append(each)
    count = f"{len(ENDPOINTS)} endpoints"
    notes = (
        f"{count}. Every one under `/v1` takes `expand`; a list also takes `limit`, `starting_after` and "
        "`ending_before`. A hash shows its fields in braces, a list ends in `[]`. What is refused is "
        "known to Stripe and answered with `sandbox_unsupported`; anything else is unknown to Stripe too."
    )
    return "\n\n".join([notes, *(_table(name, groups[name]) for name in sorted(groups))])


def _group(path: str) -> str:
    version, first, *_ = path.strip("/").split("/")
    return f"v2/{first}" if version == "v2" else first


def _table(name: str, endpoints: Iterable[Endpoint]) -> str:
    rows = [
        f"| `{each.method} {each.path}` | {_cell(each, refused=False)} | {_cell(each, refused=True)} |"
        for each in sorted(endpoints, key=lambda each: (each.path, each.method))
    ]
    head = "| endpoint | takes | refuses |\n|---|---|---|"
    return f"<details><summary>{name}</summary>\n\n{head}\n" + "\n".join(rows) + "\n\n</details>"


def _cell(endpoint: Endpoint, *, refused: bool) -> str:
    shape = table_shape(endpoint.params)
    for name in EXPAND if "limit" not in endpoint.params else PAGE:
        shape.fields.pop(name, None)
    if refused:
        return ", ".join(f"`{each}`" for each in _refused(shape, ""))
    return ", ".join(f"`{each}`" for each in _taken(shape))


def _taken(shape: Shape) -> Iterator[str]:
    for name, each in sorted(shape.fields.items()):
        if not each.refused:
            yield name + _inside(each)


def _inside(shape: Shape) -> str:
    if shape.item is not None:
        return "[]" + _inside(shape.item)
    fields = ", ".join(_taken(shape))
    return f"{{{fields}}}" if fields else ""


def _refused(shape: Shape, prefix: str) -> Iterator[str]:
    for name, each in sorted(shape.fields.items()):
        full = f"{prefix}.{name}" if prefix else name
        if each.refused:
            yield full
        else:
            yield from _refused(each, full)
            if each.item is not None:
                yield from _refused(each.item, f"{full}[]")
            yield from (f"{full}={word}" for word in sorted(each.refused_words))


def with_listing(text: str) -> str:
    """Return a text with the lists between their two marks. Raises ValueError where it lacks them."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{listing()}\n\n## Where it differs from Stripe\n\n{as_markdown()}\n\n{END}{after}"


if __name__ == "__main__":
    README.write_text(with_listing(README.read_text()))
