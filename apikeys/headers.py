"""Tell an API client where it stands.

`RateLimit` and `RateLimit-Policy` follow the IETF draft (draft-ietf-httpapi-ratelimit-headers-10): q is the
quota, qu its unit where that is not a request, w the window and t the time until more is allowed in seconds, r
what remains. `X-RateLimit-*` is what clients know from elsewhere, here of the minute; its Reset is in Unix
seconds. `X-Quota-Runs-Out` is when the period's units will be gone, used as fast as so far, in RFC 3339: there
where that is before the period's end.
"""

from apikeys.decision import AT, CALLS, MINUTE, PERIOD_END, PERIOD_START, RATE, UNITS, USED, Decision
from apikeys.instants import from_microseconds

SECOND = 1_000_000
MINUTES = "minute"


def rate_headers(decision: Decision, *, given_back: int = 0) -> dict[str, str]:
    """Return the headers of a response to a call that got as far as its limits; else none.

    `given_back` are units of the call that its settlement returned. Written for every call: whole numbers, and no
    dates, as long as they can be avoided. Seconds are rounded up: who obeys them is never early.
    """
    if decision.is_degraded or not decision.has_limits:
        return {}
    answer = decision.answer
    policies, states, headers = [], [], {}
    now = int(answer[AT])
    for policy, field in CALLS:
        limit = answer[field]
        if limit:
            left, until_more = int(answer[field + 1]), int(answer[field + 2])
            policies.append(f'"{policy}";q={limit};w={MINUTE}')
            states.append(f'"{policy}";r={left};t={-(-until_more // SECOND)}')
            if field == RATE:
                headers["X-RateLimit-Limit"] = str(limit)
                headers["X-RateLimit-Remaining"] = str(left)
                headers["X-RateLimit-Reset"] = str(-(-(now + until_more) // SECOND))
    ends = None
    for policy, field in UNITS:
        limit = answer[field]
        if limit:
            start, end, used = (
                int(answer[PERIOD_START]),
                int(answer[PERIOD_END]),
                int(answer[USED]) - given_back,
            )
            left, unit = max(int(limit) - used, 0), unit_of(decision.meter)
            policies.append(f'"{policy}";q={limit}{unit};w={(end - start) // SECOND}')
            states.append(f'"{policy}";r={left};t={-(-(end - now) // SECOND)}')
            # A straight line from the period's start: as Decision.runs_out_at has it.
            if used > 0 and now + (now - start) * left // used < end:
                moment = now + (now - start) * left // used
                ends = moment if ends is None else min(ends, moment)
    if policies:
        headers["RateLimit-Policy"] = ", ".join(policies)
        headers["RateLimit"] = ", ".join(states)
    if ends is not None:
        headers["X-Quota-Runs-Out"] = f"{from_microseconds(ends):%Y-%m-%dT%H:%M:%SZ}"
    return headers


def unit_of(meter: str) -> str:
    # "requests" is the draft's default.
    return "" if meter == "requests" else f';qu="{meter}"'
