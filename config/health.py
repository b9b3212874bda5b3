from django.contrib.auth.decorators import login_not_required
from django.db import DatabaseError, connection
from django.http import HttpRequest, JsonResponse
from redis.exceptions import RedisError

from usage.redis_client import get_redis


@login_not_required
def healthz(request: HttpRequest) -> JsonResponse:
    """The process answers."""
    return JsonResponse({"status": "ok"})


@login_not_required
def readyz(request: HttpRequest) -> JsonResponse:
    """The process and both its stores answer: 200, else 503 with the one that does not."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return JsonResponse({"status": "unavailable", "store": "postgresql"}, status=503)
    try:
        get_redis().ping()
    except RedisError:
        return JsonResponse({"status": "unavailable", "store": "redis"}, status=503)
    return JsonResponse({"status": "ok"})
