"""The back office of keys, a module a noun. Django finds them by importing this package."""

from apikeys.admin import counter_readings, keys, service_tokens  # noqa: F401  (registers their models)
