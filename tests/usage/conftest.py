"""A Redis that a test may stop, start and fill."""

from tests.apikeys.conftest import own_redis

__all__ = ["own_redis"]
