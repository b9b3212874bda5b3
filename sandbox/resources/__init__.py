"""Stripe's resources, one file each. Importing this package registers every endpoint."""

import importlib
import pkgutil

from sandbox.routing import ENDPOINTS
from sandbox.subscriptions import renewing, scheduling  # noqa: F401  (imported for what time brings)

for _each in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_each.name}")

__all__ = ["ENDPOINTS"]
