from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from config.environment import Environment, celery_broker_url

SECRET = "hunter2-not-to-be-shown"


def given(value: str) -> Environment:
    return Environment({"NAME": value})


def refused(look: Callable[[Environment], Any], value: str = SECRET) -> str:
    """Return why `look` refuses NAME with `value`, which must name the variable and not repeat the value."""
    with pytest.raises(ImproperlyConfigured) as caught:
        look(given(value))
    message = str(caught.value)
    assert message.startswith("NAME ")
    assert message.endswith(".")
    assert not value.strip() or value not in message
    return message


def test_a_text_comes_without_the_blanks_around_it():
    assert given("  as it is ").text("NAME") == "as it is"


@pytest.mark.parametrize("empty", ["", "  ", "\t\n"])
def test_an_empty_value_counts_as_unset(empty):
    assert given(empty).find("NAME") is None
    assert given(empty).text("NAME", default="else") == "else"


def test_a_missing_text_is_refused_with_what_it_is_needed_for():
    message = refused(lambda env: env.text("NAME", needed_for="it signs sessions"), value="")

    assert message == "NAME is not set: it signs sessions."


@pytest.mark.parametrize(
    ("value", "meant"),
    [(word, True) for word in ("1", "true", "YES", "On")]
    + [(word, False) for word in ("0", "False", "no", "OFF")],
)
def test_a_boolean_is_said_in_any_usual_word(value, meant):
    assert given(value).boolean("NAME", default=not meant) is meant


def test_a_boolean_that_is_not_set_is_the_default():
    assert given("").boolean("NAME", default=True) is True
    assert given("").boolean("NAME", default=False) is False


@pytest.mark.parametrize("value", ["2", "maybe", "truth"])
def test_a_word_that_is_neither_yes_nor_no_is_refused(value):
    message = refused(lambda env: env.boolean("NAME", default=False), value=value)

    assert message == "NAME must be 1 or 0 (or true or false)."


def test_an_integer():
    assert given("42").integer("NAME", default=1) == 42
    assert given("0").integer("NAME", default=1) == 0
    assert given("").integer("NAME", default=7) == 7


@pytest.mark.parametrize("value", ["-1", "1.5", "1e3", "eleven", "٣", "1_000", "12345678901"])
def test_what_is_no_whole_number_is_refused(value):
    assert refused(lambda env: env.integer("NAME", default=1), value=value).startswith(
        "NAME must be a whole number"
    )


def test_an_integer_below_its_least_is_refused():
    message = refused(lambda env: env.integer("NAME", default=587, at_least=10), value="9")

    assert message == "NAME must be a whole number, 10 or more."


def test_words_are_split_at_commas_and_stripped():
    assert given("api.example.com, www.example.com,,").words("NAME", default=[]) == [
        "api.example.com",
        "www.example.com",
    ]
    assert given("").words("NAME", default=["localhost"]) == ["localhost"]


def test_each_word_of_a_list_has_the_form_that_is_asked_for():
    assert given("ab, cd").words("NAME", default=[], regex="[a-z]+", form="small letters") == ["ab", "cd"]
    with pytest.raises(
        ImproperlyConfigured, match="NAME must be a list, with commas between, of small letters"
    ):
        given("ab, 7").words("NAME", default=[], regex="[a-z]+", form="small letters")


def test_a_url_comes_without_a_trailing_slash():
    env = given("redis://cache.example:6379/0/")

    assert env.url("NAME", schemes={"redis", "rediss"}) == "redis://cache.example:6379/0"


def test_a_url_that_is_not_set_is_the_default_or_refused():
    assert given("").url("NAME", schemes={"redis"}, default="redis://here") == "redis://here"
    message = refused(
        lambda env: env.url("NAME", schemes={"redis"}, needed_for="calls are counted in it"), value=""
    )
    assert message == "NAME is not set: calls are counted in it."


@pytest.mark.parametrize("value", ["mysql://user:hunter2@db/x", "db.example", "hunter2"])
def test_a_url_with_another_scheme_is_refused(value):
    message = refused(lambda env: env.url("NAME", schemes={"postgres", "postgresql"}), value=value)

    assert message == "NAME must start with one of postgres://, postgresql://."


@pytest.mark.parametrize("value", ["redis://cache:port/0", "redis://cache:99999/0", "redis://[::1/0"])
def test_a_url_that_cannot_be_read_is_refused(value):
    assert refused(lambda env: env.url("NAME", schemes={"redis"}), value=value) == "NAME is not an address."


def test_an_origin():
    assert given("https://api.example.com/").origin("NAME") == "https://api.example.com"
    assert given("").origin("NAME", default="http://127.0.0.1:8000") == "http://127.0.0.1:8000"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("api.example.com", "NAME must start with one of http://, https://."),
        ("ftp://api.example.com", "NAME must start with one of http://, https://."),
        ("https://", "NAME names no host."),
        ("https:///path", "NAME names no host."),
        ("https://api.example.com:port", "NAME is not an address."),
    ],
)
def test_what_is_no_origin_is_refused(value, why):
    assert refused(lambda env: env.origin("NAME"), value=value) == why


def test_a_pattern_must_match_entirely():
    assert given("pk_123").pattern("NAME", r"pk_\d+", form="pk_…") == "pk_123"
    for value in ("pk_", "xpk_123", "pk_123x", "pk_٣", SECRET):
        message = refused(lambda env: env.pattern("NAME", r"pk_\d+", form="a publishable key"), value=value)
        assert message == "NAME must look like a publishable key."


def test_a_pattern_that_is_not_set_is_the_default_or_refused():
    assert given("").pattern("NAME", r"\d+", form="digits", default="") == ""
    message = refused(
        lambda env: env.pattern("NAME", r"\d+", form="digits", needed_for="we pay with it"), value=""
    )
    assert message == "NAME is not set: we pay with it."


def test_the_process_s_own_environment_is_read_unless_another_is_given(monkeypatch):
    monkeypatch.setenv("NAME", "from outside")

    assert Environment().text("NAME") == "from outside"
    assert Environment({}).find("NAME") is None


@pytest.mark.parametrize(
    ("redis", "celery"),
    [
        ("redis://cache.example:6379/2", "redis://cache.example:6379/2"),
        ("rediss://cache.example/0", "rediss://cache.example/0"),
        ("unix:///run/redis.sock", "redis+socket:///run/redis.sock?virtual_host=0"),
        ("unix:///run/My%20var/redis.sock?db=3", "redis+socket:///run/My%20var/redis.sock?virtual_host=3"),
    ],
)
def test_celery_gets_the_address_of_redis_in_its_own_words(redis, celery):
    assert celery_broker_url(redis) == celery
