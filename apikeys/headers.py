"""Tell an API client where it stands.

`RateLimit` and `RateLimit-Policy` follow the IETF draft (draft-ietf-httpapi-ratelimit-headers-10): q is the
quota, w the window and t the time until reset in seconds, r what remains. `X-RateLimit-*` is what clients
know from elsewhere, here of the minute; its Reset is in Unix seconds.
"""

import math
from datetime import timedelta

from apikeys.gate import Decision, Verdict

WINDOW = timedelta(minutes=1)


def rate_headers(decision: Decision) -> dict[str, str]:
    """Return the headers of a response to a call that got as far as its limits; else none."""
    if decision.at is None or decision.period_start is None or decision.period_end is None:
        return {}
    policies, limits, headers = [], [], {}
    if decision.rate_limit is not None:
        # After a refusal by the quota the window has not changed: `wait` then speaks of the period.
        refused_by_quota = decision.verdict is Verdict.QUOTA_EXCEEDED
        reset = WINDOW if refused_by_quota else decision.wait
        policies.append(f'"minute";q={decision.rate_limit};w=60')
        limits.append(f'"minute";r={decision.rate_remaining};t={seconds(reset)}')
        headers = {
            "X-RateLimit-Limit": str(decision.rate_limit),
            "X-RateLimit-Remaining": str(decision.rate_remaining),
            "X-RateLimit-Reset": str(math.ceil((decision.at + reset).timestamp())),
        }
    if decision.quota is not None:
        policies.append(
            f'"period";q={decision.quota};w={seconds(decision.period_end - decision.period_start)}'
        )
        limits.append(f'"period";r={decision.quota_remaining};t={seconds(decision.period_end - decision.at)}')
    if policies:
        headers |= {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(limits)}
    return headers


def seconds(span: timedelta) -> int:
    return max(math.ceil(span.total_seconds()), 0)
