import re
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts.models import BASE62
from apikeys.secret import checksum, digest, new_secret, parse

REF = "0123456789"


def test_a_new_key_has_the_documented_form():
    assert re.fullmatch(r"sk_live_0123456789[0-9A-Za-z]{38}", new_secret(REF))
    assert new_secret(REF, mode="test").startswith("sk_test_0123456789")


def test_no_two_keys_are_alike():
    assert len({new_secret(REF) for _ in range(1000)}) == 1000


def test_a_new_key_parses_to_its_organization_and_digest():
    secret = new_secret(REF)

    parsed = parse(secret)

    assert parsed is not None
    assert (parsed.ref, parsed.mode, parsed.digest) == (REF, "live", digest(secret))


@given(st.text(st.characters(codec="utf-8")))
def test_the_checksum_is_the_crc32_in_base62(body: str):
    number = 0
    for character in checksum(body):
        number = number * 62 + BASE62.index(character)

    assert number == zlib.crc32(body.encode())


@given(st.integers(min_value=0, max_value=55), st.sampled_from(BASE62))
def test_any_single_wrong_character_is_noticed(position: int, character: str):
    secret = "sk_live_" + REF + "a" * 32
    secret += checksum(secret)
    changed = secret[:position] + character + secret[position + 1 :]

    assert (parse(changed) is None) == (changed != secret)


@pytest.mark.parametrize(
    "garbled",
    [
        "",
        "sk_live_",
        "Bearer",
        "sk_live_" + "a" * 48,
        "\x00" * 56,
        "pk_live_0123456789" + "a" * 38,
        "ключ",
        "a" * 10_000,
    ],
)
def test_what_is_no_key_is_refused(garbled: str):
    assert parse(garbled) is None


def test_a_line_break_after_a_key_is_not_overlooked():
    assert parse(new_secret(REF) + "\n") is None


def test_a_key_with_another_prefix_is_not_ours(settings):
    secret = new_secret(REF)
    settings.API_KEY_PREFIX = "acme"

    assert parse(secret) is None
    assert parse(new_secret(REF)) is not None
