from collections.abc import Iterable

from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer


class ByAcceptAlone(DefaultContentNegotiation):
    """A query's `format` is a parameter like any other: by itself the framework answers 404 to one it does not know."""

    def filter_renderers(self, renderers: Iterable[BaseRenderer], format: str) -> list[BaseRenderer]:
        return list(renderers)
