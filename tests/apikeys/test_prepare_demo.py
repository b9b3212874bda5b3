import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import OperationalError
from redis.exceptions import ConnectionError as Unreachable

pytestmark = pytest.mark.django_db


def fail_with(error: Exception):
    def fail(*args, **kwargs):
        raise error

    return fail


@pytest.fixture(autouse=True)
def in_development(settings):
    settings.DEBUG = True


def test_postgresql_out_of_reach_is_one_sentence_that_names_its_variable(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("django.db.connection.ensure_connection", fail_with(OperationalError("refused")))
        with pytest.raises(
            CommandError, match="PostgreSQL does not answer at the address in DATABASE_URL: refused"
        ):
            call_command("prepare_demo")


def test_redis_out_of_reach_is_one_sentence_that_names_its_variable(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("redis.Redis.ping", fail_with(Unreachable("refused")))
        with pytest.raises(CommandError, match="Redis does not answer at the address in REDIS_URL: refused"):
            call_command("prepare_demo")


def test_known_logins_are_never_made_in_production(settings):
    settings.DEBUG = False

    with pytest.raises(CommandError, match="DEBUG=1 only"):
        call_command("prepare_demo")
