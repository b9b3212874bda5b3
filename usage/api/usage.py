"""The caller's usage: the period so far, by time, and as a file."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import clock
from accounts.models import Organization
from billing.api.base import ManagementView
from billing.api.problems import READING, problems
from billing.entitlements import current_entitlement
from billing.models import Meter
from usage.analytics import Dimension, Latency, Measures, Point, Series, latency, latency_by_meter, series
from usage.api.queries import (
    DIMENSIONS,
    INTERVALS,
    LONGEST,
    ExportQuerySerializer,
    NothingSerializer,
    SeriesQuerySerializer,
    asked,
    scope_for,
)
from usage.export import file_name, lines
from usage.forecast import Forecast, paces
from usage.local_time import HOUR, Interval
from usage.naming import key_names
from usage.quota_periods import current_period
from usage.summaries import MeterUsage, meter_usages
from usage.unplanned import unplanned_meters

TAGS = ["usage"]
MILLISECONDS = "In milliseconds, within 2 %. Null: no calls."


class UsageOverageSerializer(serializers.Serializer[Any]):
    units = serializers.IntegerField(help_text="Beyond the included ones.")
    amount = serializers.IntegerField(help_text="In the currency's minor unit, before discounts and taxes.")
    currency = serializers.CharField()


class ForecastSerializer(serializers.Serializer[Any]):
    expected = serializers.IntegerField(
        allow_null=True,
        help_text="Units when the period ends, at the rate of the last 7 whole days, of as many as there are, or "
        "before one is over of the period so far. Null: none used.",
    )
    runs_out_at = serializers.DateTimeField(
        allow_null=True,
        help_text="When the included units will be used up. Null: not in this period, or they are.",
    )
    cap_reached_at = serializers.DateTimeField(allow_null=True, help_text="The same of your own spend cap.")


class LatencySerializer(serializers.Serializer[Any]):
    p50 = serializers.FloatField(allow_null=True, help_text=MILLISECONDS)
    p95 = serializers.FloatField(allow_null=True, help_text=MILLISECONDS)
    p99 = serializers.FloatField(allow_null=True, help_text=MILLISECONDS)


class MeterUsageSerializer(serializers.Serializer[Any]):
    meter = serializers.CharField()
    name = serializers.CharField()
    unit = serializers.CharField()
    used = serializers.IntegerField()
    included = serializers.IntegerField(
        allow_null=True, help_text="Null: unlimited. 0: your plan does not know the meter any more."
    )
    remaining = serializers.IntegerField(allow_null=True, help_text="Null: unlimited.")
    percent = serializers.IntegerField(allow_null=True, help_text="Rounded down, 100 at most.")
    overage = UsageOverageSerializer(
        allow_null=True, help_text="Null: nothing is billed beyond the plan's fee so far."
    )
    stops_at = serializers.IntegerField(
        allow_null=True, help_text="The last unit that your spend cap allows."
    )
    forecast = ForecastSerializer()
    latency = LatencySerializer()


class UsageSerializer(serializers.Serializer[Any]):
    period_start = serializers.DateTimeField()
    period_end = serializers.DateTimeField()
    data = MeterUsageSerializer(many=True)  # type: ignore[assignment]  # DRF takes declared fields off the class.


class MeasuresSerializer(serializers.Serializer[Any]):
    units = serializers.IntegerField()
    calls = serializers.IntegerField(
        help_text="Also those that `keys/verify` or `gateway/authorize` charged."
    )
    sent_in = serializers.IntegerField(help_text="Events that came in by themselves, without a call.")
    errors = serializers.IntegerField(  # type: ignore[assignment]  # As above.
        help_text="Calls that were answered with 400 or more."
    )
    mean_ms = serializers.FloatField(
        allow_null=True, help_text="Of calls whose answer is known. Null: there are none."
    )


class PointSerializer(MeasuresSerializer):
    start = serializers.DateTimeField()
    end = serializers.DateTimeField()


class SeriesGroupSerializer(serializers.Serializer[Any]):
    value = serializers.CharField(
        allow_null=True,
        help_text="A key's id, all zeros for none; an endpoint; or a status, 0 for none, as of events sent in and "
        "of calls that `keys/verify` or `gateway/authorize` charged. Null: all others together.",
    )
    name = serializers.CharField(allow_null=True, help_text="Of a key.")
    prefix = serializers.CharField(allow_null=True, help_text="Of a key.")
    totals = MeasuresSerializer()
    units = serializers.ListField(child=serializers.IntegerField(), help_text="In the order of `data`.")
    calls = serializers.ListField(child=serializers.IntegerField(), help_text="In the order of `data`.")


class TimeseriesSerializer(serializers.Serializer[Any]):
    meter = serializers.CharField()
    interval = serializers.ChoiceField(INTERVALS)
    time_zone = serializers.CharField()
    group_by = serializers.ChoiceField(DIMENSIONS, allow_null=True)
    totals = MeasuresSerializer()
    latency = LatencySerializer(
        allow_null=True, help_text="Null where a key or status is asked for over more than 31 days."
    )
    data = PointSerializer(many=True, help_text="Every interval in order.")  # type: ignore[assignment]
    groups = SeriesGroupSerializer(many=True, help_text="The ten that used most, the largest first.")

    def get_fields(self) -> dict[str, Any]:
        span = {
            "from": serializers.DateTimeField(help_text="What was asked for, widened to whole intervals."),
            "to": serializers.DateTimeField(),
        }
        return super().get_fields() | span


class UsageView(ManagementView):
    read_scope = "usage:read"


class Usage(UsageView):
    @extend_schema(
        operation_id="retrieve_usage",
        summary="Your usage in the current period",
        description="Of every meter that your plan knows, and of others that were used in the period. Figures lag by "
        "up to a minute.",
        responses={200: UsageSerializer, **problems(*READING, "invalid")},
        tags=TAGS,
    )
    def get(self, request: Request) -> Response:
        asked(NothingSerializer, request)
        entitlement, now = current_entitlement(self.organization), clock.now()
        entitlement.organization = self.organization
        period = current_period(entitlement)
        usages = meter_usages(entitlement, now=now)
        others = unplanned_meters(entitlement, period)
        rates = paces(entitlement, others, now=now)
        slugs = [*(each.slug for each in usages), *(each.slug for each in others)]
        times = latency_by_meter(period.scope(self.organization, *slugs)) if slugs else {}
        data = [represent(each, times[each.slug]) for each in usages]
        data += [represent_unplanned(each, times[each.slug], used=rates[each.slug].used) for each in others]
        found = {"period_start": period.start, "period_end": period.end, "data": data}
        return Response(UsageSerializer(found).data)


class Timeseries(UsageView):
    @extend_schema(
        operation_id="retrieve_usage_timeseries",
        summary="Your usage by hour, day or month",
        description="At most 31 days by hour, 400 days by day, and 36 months by month. An hour counts in the day in "
        "which it begins.",
        parameters=[SeriesQuerySerializer],
        responses={200: TimeseriesSerializer, **problems(*READING, "invalid")},
        tags=TAGS,
    )
    def get(self, request: Request) -> Response:
        query = asked(SeriesQuerySerializer, request)
        interval = Interval(query["interval"])
        by = Dimension(query["group_by"]) if "group_by" in query else None
        scope = scope_for(self.organization, query, meter=slug_of(query["meter"]), now=clock.now())
        found, zone = series(scope, interval, by=by), ZoneInfo(scope.time_zone)
        is_narrowed = scope.api_key_id is not None or scope.statuses is not None
        # Those are added up from hours: see `usage.cells.latencies`.
        is_slow = is_narrowed and scope.end - scope.start > LONGEST[Interval.HOUR] + HOUR
        return Response(
            {
                "meter": scope.meter,
                "interval": interval,
                "time_zone": scope.time_zone,
                "from": scope.start.astimezone(zone).isoformat(),
                "to": scope.end.astimezone(zone).isoformat(),
                "group_by": by,
                "totals": numbers(found.totals),
                "latency": None if is_slow else percentiles(latency(scope)),
                "data": written(found.points, zone),
                "groups": groups(self.organization, found, by),
            }
        )


class CSVRenderer(JSONRenderer):
    """Lets a client ask for CSV, which the view writes itself. Problems are JSON here too."""

    media_type = "text/csv"
    format = "csv"


class Export(UsageView):
    renderer_classes = [CSVRenderer]

    @extend_schema(
        operation_id="export_usage",
        summary="Your usage as CSV",
        description="A row for each hour or day, meter, period, key, endpoint and status, by meter and time: "
        "`start`, `meter`, `period_start`, `key_id`, `key_name`, `endpoint`, `status`, `units`, `calls`, `sent_in`, "
        "`errors`, `mean_ms`. At most 400 days at once.",
        parameters=[ExportQuerySerializer],
        responses={(200, "text/csv"): OpenApiTypes.STR, **problems(*READING, "invalid")},
        tags=TAGS,
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        query, now = asked(ExportQuerySerializer, request), clock.now()
        interval = Interval(query["interval"])
        meters = [query["meter"]] if "meter" in query else list(Meter.objects.all())
        scopes = [
            scope_for(self.organization, query, meter=meter.slug, now=now, longest=LONGEST[Interval.DAY])
            for meter in meters
        ]
        response = StreamingHttpResponse(lines(scopes, interval), content_type="text/csv; charset=utf-8")
        zone = ZoneInfo(scopes[0].time_zone)
        name = file_name(self.organization, scopes[0].start.astimezone(zone), scopes[0].end.astimezone(zone))
        response["Content-Disposition"] = f'attachment; filename="{name}"'
        return response


def slug_of(meter: Meter | str) -> str:
    """Return a meter's slug. A default comes as it is written."""
    return meter if isinstance(meter, str) else meter.slug


def represent(usage: MeterUsage, found: Latency) -> dict[str, Any]:
    return {
        "meter": usage.slug,
        "name": usage.name,
        "unit": usage.unit,
        "used": usage.used,
        "included": usage.included,
        "remaining": usage.remaining,
        "percent": usage.percent,
        "overage": usage.overage,
        "stops_at": usage.stops_at,
        "forecast": usage.forecast,
        "latency": percentiles(found),
    }


def represent_unplanned(meter: Meter, found: Latency, *, used: int) -> dict[str, Any]:
    """Return what there is to say of a meter of which nothing is included, nothing billed and nothing more let in."""
    return {
        "meter": meter.slug,
        "name": meter.name,
        "unit": meter.unit,
        "used": used,
        "included": 0,
        "remaining": 0,
        "percent": 100,
        "overage": None,
        "stops_at": None,
        "forecast": Forecast(expected=used),
        "latency": percentiles(found),
    }


def percentiles(found: Latency) -> dict[str, float | None]:
    # They may be off by nearly 2 % already: a tenth of a millisecond more makes 7.8 of 8.
    return {name: rounded(getattr(found, name), 2) for name in ("p50", "p95", "p99")}


def rounded(value: float | None, digits: int = 1) -> float | None:
    return None if value is None else round(value, digits)


def numbers(measures: Measures) -> dict[str, Any]:
    return {
        "units": measures.units,
        "calls": measures.calls,
        "sent_in": measures.sent_in,
        "errors": measures.errors,
        "mean_ms": rounded(measures.mean_ms),
    }


def written(points: Sequence[Point], zone: ZoneInfo) -> list[dict[str, Any]]:
    """Return every point. Where one ends the next begins, so that each moment is written once."""
    edges = [point.start.astimezone(zone).isoformat() for point in points]
    edges += [point.end.astimezone(zone).isoformat() for point in points[-1:]]
    return [
        {"start": edges[place], "end": edges[place + 1], **numbers(point.measures)}
        for place, point in enumerate(points)
    ]


def groups(organization: Organization, found: Series, by: Dimension | None) -> list[dict[str, Any]]:
    keys = {}
    if by == Dimension.KEY:
        keys = key_names(organization, (UUID(group.value) for group in found.groups if group.value))
    represented = []
    for group in found.groups:
        key = keys.get(UUID(group.value)) if by == Dimension.KEY and group.value else None
        represented.append(
            {
                "value": group.value,
                "name": key.name if key else None,
                "prefix": key.prefix if key else None,
                "totals": numbers(group.measures),
                "units": [point.measures.units for point in group.points],
                "calls": [point.measures.calls for point in group.points],
            }
        )
    return represented
