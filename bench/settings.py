"""The project's settings with the peers installed beside it, and nothing of the project's own changed."""

from bench.peers import APPS, IS_INSTALLED
from config.settings import *  # noqa: F403
from config.settings import INSTALLED_APPS, REDIS_URL

ROOT_URLCONF = "bench.urls"
if IS_INSTALLED:
    INSTALLED_APPS = [*INSTALLED_APPS, *APPS]
# What the peers' users have for DRF's throttles: Django's own cache on Redis.
CACHES = {
    "default": {"BACKEND": "config.cache.TolerantRedisCache", "LOCATION": REDIS_URL},
    "throttles": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL},
}
