"""What the doctor looks for in usage. Importing this registers the checks."""

from usage.checks import proofs, redis, reports  # noqa: F401
