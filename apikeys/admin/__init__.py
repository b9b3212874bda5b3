"""The back office of keys, a module a noun. Django finds them by importing this package."""

from apikeys.admin import keys  # noqa: F401  (registers its models)
