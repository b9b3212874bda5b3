"""What the settings make of an environment, in a process of its own: all cases in one, because Python's start
and Django's import are what takes the time."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

TEST_KEY = "sk_test_1234567890abcdefghijklmn"
LIVE_KEY = "sk_live_1234567890abcdefghijklmn"
PRODUCTION = {
    "SECRET_KEY": "x" * 50,
    "API_BASE_URL": "https://api.example.com",
    "ALLOWED_HOSTS": "api.example.com, www.example.com",
    "DATABASE_URL": "postgresql://tollgate:pass%40word@db.example:5433/tollgate?sslmode=require",
    "REDIS_URL": "rediss://cache.example:6380/1",
    "STRIPE_SECRET_KEY": LIVE_KEY,
    "EMAIL_HOST": "smtp.example.com",
    "DEFAULT_FROM_EMAIL": "Example API <api@example.com>",
}
BAD_VALUES = [
    ("API_SCOPES", "weather"),
    ("API_SCOPES", "forecast:read, Fore|cast:read"),
    ("DEBUG", "perhaps"),
    ("SECRET_KEY", "short-and-known"),
    ("API_BASE_URL", "api.example.com"),
    ("API_BASE_URL", "https://"),
    ("FRONTEND_URL", "www.example.com"),
    ("ALLOWED_HOSTS", ","),
    ("DATABASE_URL", "mysql://db.example/tollgate"),
    ("DATABASE_URL", "postgresql://db.example:port/tollgate"),
    ("REDIS_URL", "http://cache.example"),
    ("STRIPE_SECRET_KEY", "pk_live_1234567890abcdefghijklmn"),
    ("STRIPE_SECRET_KEY", "sk_live_short"),
    ("STRIPE_PUBLISHABLE_KEY", LIVE_KEY),
    ("STRIPE_WEBHOOK_SECRET", "whsec_short"),
    ("STRIPE_WEBHOOK_SECRET", TEST_KEY),
    ("STRIPE_CHECK_RESTRICTED_KEY", TEST_KEY),
    ("STRIPE_API_BASE", "stripe.example"),
    ("STRIPE_PRICE_ID_PRO", "prod_1234567890"),
    ("STRIPE_PRICE_ID_TEAM", "price_12 34"),
    ("STRIPE_PRICE_ID_ENTERPRISE", "$499"),
    ("API_KEY_PREFIX", "Acme!"),
    ("TRUSTED_PROXIES", "10.0.0.1"),
    ("EMAIL_PORT", "smtps"),
    ("EMAIL_PORT", "0"),
    ("EMAIL_PORT", "65536"),
    ("SECRET_KEY", "development-only-not-a-secret-0123456789abcdefghij"),
    ("API_BASE_URL", "https://api.example.com/v1"),
    ("API_BASE_URL", "https://me:secret@api.example.com"),
    ("FRONTEND_URL", "https://www.example.com/?next=/"),
    ("ALLOWED_HOSTS", "https://api.example.com"),
    ("DATABASE_URL", "postgresql://"),
    ("REDIS_URL", "unix://"),
    ("CELERY_BROKER_URL", "amqp://queue.example"),
    ("EMAIL_USE_TLS", "starttls"),
    ("SECURE_SSL_REDIRECT", "always"),
    ("SECURE_HSTS_SECONDS", "1 year"),
    ("LOG_LEVEL", "CHATTY"),
]

# Reads a list of environments and writes for each why it is refused, or the settings that it leads to.
LOADER = """
import json, os, runpy, sys
from django.core.exceptions import ImproperlyConfigured
kept = dict(os.environ)
outcomes = []
for values in json.load(sys.stdin):
    os.environ.clear()
    os.environ.update(kept | values)
    try:
        found = runpy.run_module("config.settings")
    except ImproperlyConfigured as error:
        outcomes.append(str(error))
    else:
        outcomes.append({name: value for name, value in found.items() if name.isupper()})
# What JSON has no form for, such as lazy addresses, no test here asks for.
json.dump(outcomes, sys.stdout, default=lambda value: None)
"""


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Any]:
    """What each environment of this module leads to, by its name: a refusal's sentence, or the settings."""
    cases = {
        "production": PRODUCTION,
        "empty": {},
        "development": {
            "DEBUG": "1",
            **{name: PRODUCTION[name] for name in ("DATABASE_URL", "REDIS_URL")},
            "STRIPE_SECRET_KEY": TEST_KEY,
        },
        "plain http": {**PRODUCTION, "API_BASE_URL": "http://api.example.com"},
        "prices of before": {**PRODUCTION, "STRIPE_PRICE_ID_PRO": "price_1MoBy5LkdIwHu7ix"},
        "behind a proxy": {**PRODUCTION, "TRUSTED_PROXIES": "1"},
        "a page address of its own": {**PRODUCTION, "FRONTEND_URL": "https://www.example.com/"},
        "a test key": {**PRODUCTION, "STRIPE_SECRET_KEY": TEST_KEY},
        "a restricted key": {**PRODUCTION, "STRIPE_SECRET_KEY": LIVE_KEY.replace("sk_", "rk_")},
        "a live key elsewhere": {**PRODUCTION, "STRIPE_API_BASE": "https://stripe.example.com"},
        "a test key elsewhere": {
            **PRODUCTION,
            "STRIPE_SECRET_KEY": TEST_KEY,
            "STRIPE_API_BASE": "http://127.0.0.1:12111",
        },
        "a live and a test key": {**PRODUCTION, "STRIPE_PUBLISHABLE_KEY": TEST_KEY.replace("sk_", "pk_")},
        "a test and a live key": {
            **PRODUCTION,
            "STRIPE_SECRET_KEY": TEST_KEY,
            "STRIPE_PUBLISHABLE_KEY": LIVE_KEY.replace("sk_", "pk_"),
        },
        "both keys live": {**PRODUCTION, "STRIPE_PUBLISHABLE_KEY": LIVE_KEY.replace("sk_", "pk_")},
        **{f"no {name}": PRODUCTION | {name: ""} for name in PRODUCTION},
        **{f"{name}={value}": PRODUCTION | {name: value} for name, value in BAD_VALUES},
    }
    # Nothing of the tests' own settings may come through.
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    ended = subprocess.run(
        [sys.executable, "-c", LOADER],
        input=json.dumps(list(cases.values())),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    return dict(zip(cases, json.loads(ended.stdout), strict=True))


def test_a_whole_production_environment_is_taken(outcomes):
    settings = outcomes["production"]

    assert settings["DEBUG"] is False
    assert settings["ALLOWED_HOSTS"] == ["api.example.com", "www.example.com"]
    assert settings["FRONTEND_URL"] == "https://api.example.com"
    assert settings["CSRF_TRUSTED_ORIGINS"] == ["https://api.example.com"]
    assert settings["SESSION_COOKIE_SECURE"] is settings["CSRF_COOKIE_SECURE"] is True
    assert settings["STRIPE_API_BASE"] == "https://api.stripe.com"
    assert (settings["EMAIL_HOST"], settings["EMAIL_PORT"], settings["EMAIL_USE_TLS"]) == (
        "smtp.example.com",
        587,
        True,
    )


def test_the_stores_are_those_that_were_named(outcomes):
    settings = outcomes["production"]
    database = settings["DATABASES"]["default"]

    assert (database["HOST"], database["PORT"], database["NAME"]) == ("db.example", 5433, "tollgate")
    assert (database["USER"], database["PASSWORD"]) == ("tollgate", "pass@word")
    assert database["OPTIONS"] == {"sslmode": "require", "application_name": "tollgate"}
    assert (
        settings["CACHES"]["default"]["LOCATION"]
        == settings["CELERY_BROKER_URL"]
        == "rediss://cache.example:6380/1"
    )


@pytest.mark.parametrize("name", PRODUCTION)
def test_production_refuses_to_start_without(outcomes, name):
    refusal = outcomes[f"no {name}"]

    assert isinstance(refusal, str), f"It started without {name}."
    assert refusal.startswith(f"{name} is not set: ")
    assert refusal.endswith(".")


@pytest.mark.parametrize(("name", "value"), BAD_VALUES)
def test_a_bad_value_is_refused_by_name_and_not_shown(outcomes, name, value):
    refusal = outcomes[f"{name}={value}"]

    assert isinstance(refusal, str), f"It started with that {name}."
    assert refusal.startswith(name)
    assert len(value) < 3 or value not in refusal.removeprefix(name)


def test_an_empty_environment_is_production_and_is_refused(outcomes):
    assert outcomes["empty"].startswith("SECRET_KEY is not set: ")


def test_development_needs_no_more_than_its_stores_and_a_stripe_key(outcomes):
    settings = outcomes["development"]

    assert settings["DEBUG"] is True
    assert settings["API_BASE_URL"] == "http://127.0.0.1:8000"
    assert settings["EMAIL_BACKEND"] == "config.mail.ConsoleAndFileBackend"


def test_cookies_go_over_plain_http_only_where_the_site_does(outcomes):
    assert outcomes["plain http"]["SESSION_COOKIE_SECURE"] is False


def test_a_proxy_s_word_on_https_is_believed_only_where_a_proxy_is_trusted(outcomes):
    assert "SECURE_PROXY_SSL_HEADER" not in outcomes["production"]
    assert outcomes["behind a proxy"]["SECURE_PROXY_SSL_HEADER"] == ["HTTP_X_FORWARDED_PROTO", "https"]


def test_the_pages_may_have_an_address_of_their_own(outcomes):
    settings = outcomes["a page address of its own"]

    assert settings["FRONTEND_URL"] == "https://www.example.com"
    assert settings["CSRF_TRUSTED_ORIGINS"] == ["https://api.example.com", "https://www.example.com"]


@pytest.mark.parametrize(
    ("case", "live"), [("production", True), ("a restricted key", True), ("a test key", False)]
)
def test_the_key_decides_between_stripe_s_test_and_live_mode(outcomes, case, live):
    settings = outcomes[case]
    key = settings["STRIPE_SECRET_KEY"]

    assert settings["STRIPE_LIVE_MODE"] is live
    assert (settings["STRIPE_LIVE_SECRET_KEY"], settings["STRIPE_TEST_SECRET_KEY"]) == (
        (key, "") if live else ("", key)
    )


def test_prices_of_before_tollgate_are_known_by_their_plans(outcomes):
    assert outcomes["prices of before"]["STRIPE_PRICE_IDS"] == {
        "pro": "price_1MoBy5LkdIwHu7ix",
        "team": "",
        "enterprise": "",
    }


def test_a_live_key_goes_to_stripe_alone(outcomes):
    assert outcomes["a live key elsewhere"] == (
        "STRIPE_API_BASE may only be set with a test key: a live key goes to Stripe alone."
    )
    assert outcomes["a test key elsewhere"]["STRIPE_API_BASE"] == "http://127.0.0.1:12111"


@pytest.mark.parametrize("case", ["a live and a test key", "a test and a live key"])
def test_keys_of_different_modes_are_refused(outcomes, case):
    assert outcomes[case] == (
        "STRIPE_PUBLISHABLE_KEY and STRIPE_SECRET_KEY must both be test keys or both live."
    )
    assert outcomes["both keys live"]["STRIPE_LIVE_MODE"] is True
