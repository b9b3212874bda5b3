"""The sandbox's parameter tables against two sources of what Stripe takes, at every depth.

Each parameter that Stripe's document or stripe-python knows must be taken or named as unsupported, and
none may be there that neither knows.
"""

from collections.abc import Iterator

import pytest

from sandbox import listing
from sandbox.contract import shapes
from sandbox.contract.shapes import Gap, Shape
from sandbox.contract.spec import Spec
from sandbox.contract.typeddicts import find_shape, params_by_endpoint
from sandbox.params import BOOL, STR, EmptyOr, Enum, ListOf, Obj, unsupported
from sandbox.routing import ENDPOINTS, Endpoint

# Called by Stripe's own command line tool and pages alone: no document speaks of them.
PRIVATE = ("/v1/payment_pages/",)
# Where the sandbox knows cards alone, every other way to pay is left out by value.
WAYS_TO_PAY = "payment_method_types"


def endpoints() -> Iterator[Endpoint]:
    return (each for each in ENDPOINTS if not each.path.startswith(PRIVATE))


def sources(spec: Spec, endpoint: Endpoint) -> list[Shape]:
    operation = spec.find(endpoint.method, endpoint.path.replace("<", "{").replace(">", "}"))
    document = None if operation is None else shapes.document_shape(spec, operation.params)
    return [each for each in (document, find_shape(endpoint.method, endpoint.path)) if each is not None]


def unnamed(spec: Spec, endpoint: Endpoint) -> list[Gap]:
    ours = shapes.table_shape(endpoint.params)
    gaps = [gap for theirs in sources(spec, endpoint) for gap in shapes.unnamed(ours, theirs)]
    return [gap for gap in dict.fromkeys(gaps) if WAYS_TO_PAY not in gap.name]


@pytest.mark.parametrize("endpoint", list(endpoints()), ids=lambda each: f"{each.method} {each.path}")
def test_every_parameter_stripe_knows_is_taken_or_named_as_unsupported(
    spec: Spec, endpoint: Endpoint
) -> None:
    assert [str(gap) for gap in unnamed(spec, endpoint)] == []


@pytest.mark.parametrize("endpoint", list(endpoints()), ids=lambda each: f"{each.method} {each.path}")
def test_no_parameter_is_taken_that_stripe_does_not_know(spec: Spec, endpoint: Endpoint) -> None:
    known = sources(spec, endpoint)
    assert known, "neither Stripe's document nor stripe-python has this endpoint"
    ours = shapes.table_shape(endpoint.params)
    ours.fields.pop(
        "expand", None
    )  # "Available on all API requests", though the document leaves it out of some.
    assert [str(gap) for gap in shapes.unheard_of(ours, *known)] == []


def test_both_sources_speak_of_most_endpoints(spec: Spec) -> None:
    both = [each for each in endpoints() if len(sources(spec, each)) == 2]
    assert len(both) > 0.9 * len(list(endpoints()))
    assert len(params_by_endpoint()) > 400


def test_a_gap_is_found_in_a_field_a_list_and_a_word() -> None:
    theirs = Shape(
        fields={
            "name": Shape(plain=True),
            "lines": Shape(item=Shape(fields={"amount": Shape(plain=True), "tax": Shape(plain=True)})),
            "mode": Shape(words=frozenset({"fast", "slow"})),
        }
    )
    ours = shapes.table_shape({"lines": ListOf(Obj({"amount": STR, "colour": BOOL})), "mode": Enum("fast")})
    assert [str(gap) for gap in shapes.unnamed(ours, theirs)] == [
        "name: is not in our table",
        "lines[][tax]: is not in our table",
        "mode: may be 'slow', which our table leaves out",
    ]
    assert [str(gap) for gap in shapes.unheard_of(ours, theirs)] == ["lines[][colour]: is in our table alone"]


def test_naming_a_parameter_as_unsupported_closes_the_gap() -> None:
    theirs = Shape(fields={"lines": Shape(item=Shape(fields={"tax": Shape(plain=True)}))})
    assert list(shapes.unnamed(shapes.table_shape(unsupported("lines")), theirs)) == []
    assert list(shapes.unnamed(shapes.table_shape({"lines": EmptyOr(ListOf(Obj({})))}), theirs))


def test_the_list_in_the_readme_is_up_to_date() -> None:
    text = listing.README.read_text()
    assert listing.with_listing(text) == text, "run make listing"


def test_the_list_names_what_is_taken_and_what_is_refused() -> None:
    rows = listing.listing().splitlines()
    row = next(each for each in rows if each.startswith("| `POST /v1/prices` "))
    _, _, taken, refused, _ = row.split("|")
    assert "`recurring{interval, interval_count, meter, usage_type}`" in taken
    assert "`custom_unit_amount`" in refused
    assert "`custom_unit_amount`" not in taken
