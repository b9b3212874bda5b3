"""What clients ask for: meters, spans of time, filters. Whatever is not known is refused by name."""

import re
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from rest_framework import serializers
from rest_framework.request import Request

from accounts.models import Organization, time_zones
from billing.api.base import StrictSerializer
from billing.api.fields import SLUG
from billing.models import Meter
from usage.analytics import Dimension
from usage.cells import Scope, Statuses
from usage.counting import NO_KEY
from usage.local_time import HOUR, Interval, day_start, first_hour, round_down, round_up, starts_between

DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
# RFC 3339. A + that was not encoded arrives as a space.
INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?([Zz]|[+-]\d{2}:[0-5]\d)")
STATUS = re.compile(r"0|[1-5](xx|\d{2})")
YEARS = range(2000, 2200)
DEFAULT_SPANS = {
    Interval.HOUR: timedelta(days=1),
    Interval.DAY: timedelta(days=30),
    Interval.MONTH: timedelta(days=365),
}
MOST = {Interval.HOUR: 31 * 24, Interval.DAY: 400, Interval.MONTH: 36}
LONGEST = {
    Interval.HOUR: timedelta(days=31),
    Interval.DAY: timedelta(days=400),
    Interval.MONTH: timedelta(days=36 * 31),
}
IN_WORDS = {Interval.HOUR: "31 days", Interval.DAY: "400 days", Interval.MONTH: "36 months"}
# As the schema writes them.
INTERVALS = [interval.value for interval in Interval]
DIMENSIONS = [dimension.value for dimension in Dimension]
# Sums by day are kept in the organization's own time zone: others are added up from hours.
ELSEWHERE = timedelta(days=93)


class MomentField(serializers.CharField):
    """A day of the time zone, or an instant with its offset."""

    default_error_messages = {
        "not_a_moment": "Write a day as in 2026-04-01, or an instant as in 2026-04-01T09:00:00Z or "
        "2026-04-01T09:00:00%2B02:00.",
        "too_far": "Use a year from 2000 to 2199.",
    }

    def to_internal_value(self, data: Any) -> Any:
        text = super().to_internal_value(data)
        moment: date | datetime
        try:
            if DATE.fullmatch(text):
                moment = date.fromisoformat(text)
            elif INSTANT.fullmatch(text):
                moment = datetime.fromisoformat(text.upper())
            else:
                self.fail("not_a_moment")
        except ValueError:
            self.fail("not_a_moment")
        if moment.year not in YEARS:
            self.fail("too_far")
        return moment


class MeterField(serializers.SlugRelatedField[Meter]):
    default_error_messages = {"does_not_exist": "There is no such meter."}

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("help_text", "A meter's slug, as `GET /usage` has it.")
        super().__init__(slug_field="slug", queryset=Meter.objects.all(), **kwargs)

    def run_validation(self, data: Any = serializers.empty) -> Any:
        # Django REST Framework takes an empty text for null.
        if data == "":
            self.fail("does_not_exist")
        return super().run_validation(data)

    def to_internal_value(self, data: Any) -> Meter:
        if not isinstance(data, str) or not SLUG.fullmatch(data):
            self.fail("does_not_exist")
        return super().to_internal_value(data)


class StatusField(serializers.CharField):
    default_error_messages = {
        "no_status": "Write a status such as 404, a class such as 4xx, or 0 for what has none, as events sent in."
    }

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault(
            "help_text",
            "A status such as 404, a class such as 4xx, or 0 for what has none: events sent in, and calls that "
            "`keys/verify` or `gateway/authorize` charged.",
        )
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> Any:
        text = super().to_internal_value(data)
        if not STATUS.fullmatch(text):
            self.fail("no_status")
        if text.endswith("xx"):
            return Statuses(int(text[0]) * 100, int(text[0]) * 100 + 99)
        return Statuses(int(text), int(text))


class ZoneField(serializers.CharField):
    default_error_messages = {"no_zone": "There is no such time zone; one is Europe/Berlin."}

    def to_internal_value(self, data: Any) -> Any:
        text = super().to_internal_value(data)
        # Not all that can be opened is one: files of leap seconds lie beside them.
        if text not in time_zones():
            self.fail("no_zone")
        return ZoneInfo(text)


class NothingSerializer(StrictSerializer):
    """No parameters at all."""


class FilterSerializer(StrictSerializer):
    key = serializers.UUIDField(required=False, help_text="An API key's id, as `group_by=key` has it.")
    endpoint = serializers.CharField(
        required=False,
        max_length=200,
        trim_whitespace=False,  # It is a source too, which may begin or end with a space.
        help_text="As `group_by=endpoint` has it.",
    )
    status = StatusField(required=False)
    time_zone = ZoneField(
        required=False,
        help_text="What days and months are of, such as Europe/Berlin. Left out: your organization's.",
    )

    def get_fields(self) -> dict[str, Any]:
        # `from` cannot be the name of a class's attribute.
        moments = {
            "from": MomentField(
                required=False,
                help_text="The first day or instant. Left out: a day, 30 days or a year before `to`.",
            ),
            "to": MomentField(
                required=False, help_text="The first day or instant that is left out again. Left out: now."
            ),
        }
        return super().get_fields() | moments


class SeriesQuerySerializer(FilterSerializer):
    meter = MeterField(default="requests")
    interval = serializers.ChoiceField(INTERVALS, default="day")
    group_by = serializers.ChoiceField(DIMENSIONS, required=False)


class ExportQuerySerializer(FilterSerializer):
    meter = MeterField(required=False, help_text="A meter's slug. Left out: all of them.")
    interval = serializers.ChoiceField(["hour", "day"], default="day")
    format = serializers.ChoiceField(["csv"], required=False)


def asked(serializer: type[StrictSerializer], request: Request) -> dict[str, Any]:
    """Return the query, checked. Raises ValidationError."""
    repeated = sorted(name for name, values in request.query_params.lists() if len(values) > 1)
    if repeated:
        raise serializers.ValidationError({name: ["Give it once."] for name in repeated})
    bound = serializer(data=request.query_params.dict())
    bound.is_valid(raise_exception=True)
    values: dict[str, Any] = bound.validated_data
    return values


def scope_for(
    organization: Organization,
    query: dict[str, Any],
    *,
    meter: str,
    now: datetime,
    longest: timedelta | None = None,
) -> Scope:
    """Return what a query asks for, widened to whole intervals. Raises ValidationError.

    `longest` is the span that is answered; left out, it goes by the interval.
    """
    interval = Interval(query["interval"])
    zone = query.get("time_zone") or ZoneInfo(organization.time_zone)
    end = instant(query["to"], interval, zone) if "to" in query else now
    start = instant(query["from"], interval, zone) if "from" in query else end - DEFAULT_SPANS[interval]
    if end <= start:
        if "to" in query:
            raise serializers.ValidationError({"to": ["This is not after `from`."]})
        raise serializers.ValidationError({"from": ["This is to come: without `to` it has to be past."]})
    # A change of clocks makes it an hour more.
    if end - start > (longest or LONGEST[interval]) + HOUR:
        allowed = f"{longest.days} days" if longest else f"{IN_WORDS[interval]} by {interval}"
        raise serializers.ValidationError({"from": [f"Ask for at most {allowed} at once."]})
    if zone.key != organization.time_zone and interval != Interval.HOUR and end - start > ELSEWHERE + HOUR:
        raise serializers.ValidationError(
            {
                "time_zone": [
                    f"In another zone than your own, {organization.time_zone}, ask for at most 93 days."
                ]
            }
        )
    start, end = round_down(start, interval, zone), round_up(end, interval, zone)
    if longest is None and len(starts_between(start, end, interval, zone)) > MOST[interval] + 1:
        raise serializers.ValidationError(
            {"from": [f"Ask for at most {IN_WORDS[interval]} by {interval} at once."]}
        )
    return Scope(
        organization=organization,
        meter=meter,
        start=start,
        end=end,
        time_zone=zone.key,
        api_key_id=own_key(organization, query.get("key")),
        endpoint=query.get("endpoint"),
        statuses=query.get("status"),
    )


def instant(moment: date | datetime, interval: Interval, zone: ZoneInfo) -> datetime:
    if isinstance(moment, datetime):
        return moment
    # The hours of two days that follow each other are all of them, each once.
    return first_hour(moment, zone) if interval == Interval.HOUR else day_start(moment, zone)


def own_key(organization: Organization, key: UUID | None) -> UUID | None:
    # What was sent in is listed by a key too: by none.
    if key and key != NO_KEY and not organization.api_keys.filter(pk=key).exists():
        raise serializers.ValidationError({"key": ["You have no such API key."]})
    return key
