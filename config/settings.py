"""Settings. Every environment variable Tollgate reads is read here, and refused here by its name."""

from pathlib import Path

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

from config import backoffice, environment
from config.schedule import SCHEDULE

env = environment.Environment()

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = Path(env.text("VAR_DIR", default=str(BASE_DIR / "var")))

# Production is the default: a forgotten variable must not open a debug server to the world.
DEBUG = env.boolean("DEBUG", default=False)

DEVELOPMENT_KEY = "development-only-not-a-secret-0123456789abcdefghij"
SECRET_KEY = env.text(
    "SECRET_KEY",
    default=DEVELOPMENT_KEY if DEBUG else None,
    needed_for="it signs sessions; make one with `openssl rand -base64 48`",
)
if SECRET_KEY == DEVELOPMENT_KEY and not DEBUG:
    raise ImproperlyConfigured("SECRET_KEY is the one that everybody knows: make one of your own.")
if len(SECRET_KEY) < 32:
    raise ImproperlyConfigured("SECRET_KEY is too short: use 32 characters or more.")

API_BASE_URL = env.origin(
    "API_BASE_URL",
    default="http://127.0.0.1:8000" if DEBUG else None,
    needed_for="Stripe's webhooks and API clients must reach Tollgate, as in https://api.example.com",
)
FRONTEND_URL = env.origin("FRONTEND_URL", default=API_BASE_URL)
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS", default=["127.0.0.1", "localhost", "testserver"] if DEBUG else [])
if any("/" in host for host in ALLOWED_HOSTS):
    raise ImproperlyConfigured("ALLOWED_HOSTS takes host names such as api.example.com, not addresses.")
if not ALLOWED_HOSTS:
    raise ImproperlyConfigured("ALLOWED_HOSTS is not set: list the host names that Tollgate answers to.")
CSRF_TRUSTED_ORIGINS = sorted({API_BASE_URL, FRONTEND_URL})

# Both stores, in development too. `make run` and `make test` start their own and set these.
DATABASE_URL = env.url(
    "DATABASE_URL",
    schemes={"postgres", "postgresql"},
    needed_for="Tollgate keeps its data in PostgreSQL; `make run` starts its own",
)
REDIS_URL = env.url(
    "REDIS_URL",
    schemes={"redis", "rediss", "unix", "redis+cluster", "rediss+cluster"},
    needed_for="Tollgate counts calls in Redis; `make run` starts its own",
)
# Celery and Django's cache know no cluster: with one for the gate they want a Redis of their own.
PLAIN_REDIS_URL = None if "+cluster://" in REDIS_URL else REDIS_URL
DATABASES = {
    "default": {
        **dj_database_url.parse(DATABASE_URL, conn_max_age=600, conn_health_checks=True),
        "OPTIONS": {**dj_database_url.parse(DATABASE_URL).get("OPTIONS", {}), "application_name": "tollgate"},
    }
}
CACHE_URL = env.url(
    "CACHE_URL",
    schemes={"redis", "rediss", "unix"},
    default=PLAIN_REDIS_URL,
    needed_for="rate limits of pages are counted in it, which a Redis Cluster cannot do",
)
CACHES = {"default": {"BACKEND": "config.cache.TolerantRedisCache", "LOCATION": CACHE_URL}}

# Stripe. With no key of an operator's, `make run` names the sandbox's address and a made-up test key.
STRIPE_SECRET_KEY = env.pattern(
    "STRIPE_SECRET_KEY",
    r"(sk|rk)_(test|live)_[a-zA-Z0-9]{24,}",
    form="sk_test_… or sk_live_… (rk_… for a restricted key), as Stripe's dashboard shows it",
    needed_for="Tollgate bills through Stripe; `make run` uses its own sandbox instead",
)
STRIPE_PUBLISHABLE_KEY = env.pattern(
    "STRIPE_PUBLISHABLE_KEY", r"pk_(test|live)_[a-zA-Z0-9]{24,}", form="pk_test_… or pk_live_…", default=""
)
# Only for an endpoint that the operator made at Stripe by hand: Tollgate's own bring their secret with them.
STRIPE_WEBHOOK_SECRET = env.pattern(
    "STRIPE_WEBHOOK_SECRET",
    r"whsec_[A-Za-z0-9+/=_-]{16,}",
    form="whsec_…, as Stripe's dashboard shows it",
    default="",
)
# Read by `manage.py stripe_check` alone, which tries out what such a key may do.
STRIPE_CHECK_RESTRICTED_KEY = env.pattern(
    "STRIPE_CHECK_RESTRICTED_KEY", r"rk_test_[a-zA-Z0-9]{24,}", form="rk_test_…", default=""
)
STRIPE_LIVE_MODE = "_live_" in STRIPE_SECRET_KEY[:8]
if STRIPE_PUBLISHABLE_KEY and ("_live_" in STRIPE_PUBLISHABLE_KEY[:8]) != STRIPE_LIVE_MODE:
    raise ImproperlyConfigured(
        "STRIPE_PUBLISHABLE_KEY and STRIPE_SECRET_KEY must both be test keys or both live."
    )
# dj-stripe picks its keys by mode; an unset one would otherwise fall back to the wrong mode's.
STRIPE_TEST_SECRET_KEY = "" if STRIPE_LIVE_MODE else STRIPE_SECRET_KEY
STRIPE_LIVE_SECRET_KEY = STRIPE_SECRET_KEY if STRIPE_LIVE_MODE else ""
STRIPE_TEST_PUBLIC_KEY = "" if STRIPE_LIVE_MODE else STRIPE_PUBLISHABLE_KEY
STRIPE_LIVE_PUBLIC_KEY = STRIPE_PUBLISHABLE_KEY if STRIPE_LIVE_MODE else ""
STRIPE_ITSELF = "https://api.stripe.com"
STRIPE_API_BASE = env.origin("STRIPE_API_BASE", default=STRIPE_ITSELF)
if STRIPE_LIVE_MODE and STRIPE_API_BASE != STRIPE_ITSELF:
    raise ImproperlyConfigured(
        "STRIPE_API_BASE may only be set with a test key: a live key goes to Stripe alone."
    )
if STRIPE_API_BASE != STRIPE_ITSELF:
    STRIPE_API_HOST = STRIPE_API_BASE  # dj-stripe's name for it, which it wants unset otherwise.
# Prices of before Tollgate, by the slug of the plan that they become the fee of when it is next published.
PRICE_ID = {"regex": r"price_[A-Za-z0-9]+", "form": "price_…, as Stripe's dashboard shows it"}
STRIPE_PRICE_IDS = {
    "pro": env.pattern("STRIPE_PRICE_ID_PRO", **PRICE_ID, default=""),
    "team": env.pattern("STRIPE_PRICE_ID_TEAM", **PRICE_ID, default=""),
    "enterprise": env.pattern("STRIPE_PRICE_ID_ENTERPRISE", **PRICE_ID, default=""),
}
DJSTRIPE_SUBSCRIBER_MODEL = "accounts.Organization"
DJSTRIPE_FOREIGN_KEY_TO_FIELD = "id"
DJSTRIPE_SUBSCRIBER_MODEL_REQUEST_CALLBACK = "accounts.tenancy.current_organization"
# We set Customer.subscriber ourselves: metadata can be edited by anyone with access to the Stripe account.
DJSTRIPE_SUBSCRIBER_CUSTOMER_KEY = ""

API_KEY_PREFIX = env.pattern("API_KEY_PREFIX", r"[a-z]{2,8}", form="two to eight small letters", default="sk")
# What keys can be restricted to besides Tollgate's own scopes; the operator's views ask for them.
API_SCOPES = env.words(
    "API_SCOPES",
    default=[],
    regex=r"[a-z][a-z0-9_-]{0,29}:[a-z][a-z0-9_-]{0,29}",
    form="scopes such as forecast:read, in small letters",
)

# With Redis out of reach: let known keys in by what PostgreSQL knows, or refuse every call with 503.
GATE_WITHOUT_REDIS = env.pattern(
    "GATE_WITHOUT_REDIS", "admit|refuse", form="admit or refuse", default="admit"
)

# Usage events that may wait on Redis's stream before calls write theirs to PostgreSQL themselves.
STREAM_LIMIT = env.integer("STREAM_LIMIT", default=1_000_000, at_least=1000)
# How many whole months of usage events are kept besides the present one; unset, all of them. Hourly sums always stay.
LEDGER_MONTHS = env.integer("LEDGER_MONTHS", default=0, at_least=3)

# How many proxies stand in front, each adding one address to X-Forwarded-For. 0: nobody's header is believed.
TRUSTED_PROXIES = env.integer("TRUSTED_PROXIES", default=0)

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "allauth",
    "allauth.account",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    # Before our apps: its webhook receivers then run first, and ours find the mirror fresh.
    "djstripe",
    "accounts",
    "billing",
    "usage",
    "apikeys",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "apikeys.middleware.MeteringMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "config.malformed.NulMiddleware",
    "config.rate_limits.RateLimitMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "accounts.tenancy.OrganizationMiddleware",
    "django_ratelimit.middleware.RatelimitMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "accounts.tenancy.organization_context",
            ],
        },
    },
]

RATELIMIT_VIEW = "config.errors.too_many_requests"
RATELIMIT_IP_META_KEY = "accounts.addresses.client_address"

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "dashboard"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_EMAIL_VERIFICATION = "mandatory"
# A code typed into the page works across devices and survives mail scanners that open links.
ACCOUNT_EMAIL_VERIFICATION_BY_CODE_ENABLED = True
ACCOUNT_EMAIL_VERIFICATION_SUPPORTS_RESEND = True
ACCOUNT_EMAIL_VERIFICATION_SUPPORTS_CHANGE = True
ACCOUNT_ADAPTER = "accounts.adapter.AccountAdapter"
ACCOUNT_FORMS = {"signup": "accounts.forms.SignupForm"}
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_LOGOUT_REDIRECT_URL = "/"
ACCOUNT_SESSION_REMEMBER = True

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}
# Where files are looked up at each request no list of them is made at the start.
WHITENOISE_USE_FINDERS = WHITENOISE_AUTOREFRESH = DEBUG

DEFAULT_FROM_EMAIL = env.text(
    "DEFAULT_FROM_EMAIL",
    default="Tollgate <tollgate@localhost>" if DEBUG else None,
    needed_for="e-mail to customers has a sender, as in Acme API <api@acme.example>",
)
SERVER_EMAIL = DEFAULT_FROM_EMAIL
EMAIL_FILE_PATH = VAR_DIR / "mail"
if DEBUG:
    EMAIL_BACKEND = "config.mail.ConsoleAndFileBackend"
else:
    EMAIL_HOST = env.text("EMAIL_HOST", needed_for="customers verify their address by e-mail")
    EMAIL_PORT = env.integer("EMAIL_PORT", default=587, at_least=1, at_most=65_535)
    EMAIL_HOST_USER = env.text("EMAIL_HOST_USER", default="")
    EMAIL_HOST_PASSWORD = env.text("EMAIL_HOST_PASSWORD", default="")
    EMAIL_USE_TLS = env.boolean("EMAIL_USE_TLS", default=True)
    EMAIL_TIMEOUT = 10

REST_FRAMEWORK = {
    # An API view is metered and refused by plan unless it says otherwise: nothing to remember per view.
    "DEFAULT_AUTHENTICATION_CLASSES": ["apikeys.drf.GateAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_THROTTLE_CLASSES": ["apikeys.drf.GateThrottle"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "billing.api.negotiation.ByAcceptAlone",
    "DEFAULT_PARSER_CLASSES": ["billing.api.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "apikeys.error_handler.exception_handler",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Tollgate API",
    "DESCRIPTION": "Authorize with `Authorization: Bearer <your API key>`. Errors are RFC 9457 problem details.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    # Invoices have a status too.
    "ENUM_NAME_OVERRIDES": {
        "KeyStatusEnum": "apikeys.api.representing.STATUSES",
        "StatusEnum": ["open", "paid", "uncollectible", "void"],
        # Plans are paid by the month or year, and usage is shown by other spans.
        "IntervalEnum": [("month", "Monthly"), ("year", "Yearly")],
        "UsageIntervalEnum": ["hour", "day", "month"],
    },
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
}

# A task may run twice (late acknowledgement): each is written for it. None may vanish with its worker.
CELERY_BROKER_URL = env.url(
    "CELERY_BROKER_URL",
    schemes={"redis", "rediss", "redis+socket"},
    default=environment.celery_broker_url(PLAIN_REDIS_URL) if PLAIN_REDIS_URL else None,
    needed_for="Celery hands out tasks through it, which a Redis Cluster cannot do",
)
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_TIME_LIMIT = 300
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULE = SCHEDULE

if not DEBUG:
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = FRONTEND_URL.startswith("https://")
    SECURE_SSL_REDIRECT = env.boolean("SECURE_SSL_REDIRECT", default=False)
    SECURE_HSTS_SECONDS = env.integer("SECURE_HSTS_SECONDS", default=0)
    if TRUSTED_PROXIES:
        SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_REFERRER_POLICY = "same-origin"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"

LOG_LEVEL = env.pattern(
    "LOG_LEVEL", "DEBUG|INFO|WARNING|ERROR", form="DEBUG, INFO, WARNING or ERROR", default="INFO"
)
# No API key in full, neither in a log nor in an error's report, whatever went wrong.
DEFAULT_EXCEPTION_REPORTER = "config.reporting.ExceptionReporter"
DEFAULT_EXCEPTION_REPORTER_FILTER = "config.reporting.ExceptionReporterFilter"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "()": "config.reporting.Formatter",
            "format": "{levelname} {name}: {message}",
            "style": "{",
        }
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    # Stripe's client logs request bodies at DEBUG: never, whatever the level above.
    "loggers": {"stripe": {"level": "WARNING"}},
}

UNFOLD = backoffice.UNFOLD
