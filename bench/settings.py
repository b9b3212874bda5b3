"""The project's settings with the peers installed beside it, and nothing of the project's own changed."""

from config.settings import *  # noqa: F403
from config.settings import INSTALLED_APPS, REDIS_URL

from bench.peers import IS_INSTALLED

ROOT_URLCONF = "bench.urls"
if IS_INSTALLED:
    INSTALLED_APPS = [*INSTALLED_APPS, "rest_framework_api_key", "rest_framework_tracking"]
# What the peers' users have for DRF's throttles: Django's own cache on Redis.
CACHES = {
    "default": {"BACKEND": "config.cache.TolerantRedisCache", "LOCATION": REDIS_URL},
    "throttles": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL},
}
