"""Tell an API client where it stands.

`RateLimit` and `RateLimit-Policy` follow the IETF draft (draft-ietf-httpapi-ratelimit-headers-10): q is the
quota, w the window and t the time until reset in seconds, r what remains. `X-RateLimit-*` is what clients
know from elsewhere, here of the minute; its Reset is in Unix seconds.
"""

import math

from apikeys.decision import Decision


def rate_headers(decision: Decision) -> dict[str, str]:
    """Return the headers of a response to a call that got as far as its limits; else none."""
    headers = {}
    limits = decision.limits
    if limits:
        headers = {
            "RateLimit-Policy": ", ".join(
                f'"{each.policy}";q={each.limit};w={each.window}' for each in limits
            ),
            "RateLimit": ", ".join(
                f'"{each.policy}";r={each.remaining};t={math.ceil(each.reset)}' for each in limits
            ),
        }
    for each in limits:
        if each.policy == "minute":
            headers |= {
                "X-RateLimit-Limit": str(each.limit),
                "X-RateLimit-Remaining": str(each.remaining),
                "X-RateLimit-Reset": str(math.ceil(decision.at.timestamp() + each.reset)),
            }
    return headers
