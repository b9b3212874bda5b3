"""Metrics for Prometheus, for who has a service token that may read them."""

from collections.abc import Iterable
from typing import Any

from django.db import DatabaseError
from django.db.models import Count, Sum
from django.http import HttpResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts import clock
from apikeys.api.service import HasServiceScope, ServiceTokenAuthentication
from apikeys.models import CounterReading, ServiceToken, UncountedUnits
from usage.metrics import LedgerCollector, StreamCollector, gauge


class CounterCollector(Collector):
    """The quotas' counters beside the ledger: see `apikeys.drift`."""

    def collect(self) -> Iterable[Metric]:
        now = clock.now()
        try:
            mended = CounterReading.objects.mended_lately(now=now).aggregate(
                count=Count("pk"), units=Sum("drift")
            )
            differing = CounterReading.objects.exclude(differs_since=None).count()
            unmended = CounterReading.objects.unmended(now=now).count()
            uncounted = UncountedUnits.objects.aggregate(units=Sum("units"))["units"] or 0
        except DatabaseError:
            return  # The ledger's collector says so.
        yield from gauge(
            "counters_differing", "Counters that differ from the ledger, being measured.", differing
        )
        yield from gauge("counters_unmended", "Of them, those that have for hours.", unmended)
        yield from gauge("counters_mended_last_day", "Counters brought in line in 24 hours.", mended["count"])
        yield from gauge(
            "counters_drift_units_last_day",
            "Units by which they were too high, less those by which others were too low.",
            mended["units"] or 0,
        )
        yield from gauge(
            "uncounted_units", "Units that PostgreSQL let in and the counters do not have yet.", uncounted
        )


registry = CollectorRegistry()
for collector in (StreamCollector(), LedgerCollector(), CounterCollector()):
    registry.register(collector)


class Metrics(APIView):
    """Answers in Prometheus's text format, whatever is asked for."""

    authentication_classes = [ServiceTokenAuthentication]
    permission_classes = [HasServiceScope]
    throttle_classes = []
    service_scope = ServiceToken.Scope.METRICS
    schema = None

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        # What is refused is refused in JSON, although Prometheus asks for text.
        return super().perform_content_negotiation(request, force=True)

    def get(self, request: Request) -> HttpResponse:
        return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
