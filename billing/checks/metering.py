from collections.abc import Iterator

from billing.doctor import Finding, Severity, check
from billing.thin_events import unacknowledged_meter_errors


@check("meter-errors", "Usage that Stripe took and then refused to count, which nobody has seen to.")
def meter_errors() -> Iterator[Finding]:
    for event in unacknowledged_meter_errors():
        count = "" if event.error_count is None else f" of {event.error_count} meter events"
        yield Finding(
            slug="meter-errors",
            severity=Severity.ERROR,
            subject=event.id,
            sentence=f"On {event.created:%Y-%m-%d at %H:%M} UTC Stripe told of errors{count}: "
            f"{event.summary or 'the details are still to be fetched.'}",
            advice="That usage is on no invoice. See what was wrong, mend it, and acknowledge the event with a note.",
        )
