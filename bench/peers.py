"""The libraries that Tollgate is measured against. They are requirements of the bench alone."""

from importlib.util import find_spec

APPS = ["rest_framework_api_key", "rest_framework_tracking"]
IS_INSTALLED = all(find_spec(name) for name in APPS)
