"""What comes in Authorization and is no key: refused, at no cost, and without telling how wrong it was."""

import re
import socket
import string

import pytest

from apikeys.models import ServiceToken
from apikeys.secret import checksum, new_secret
from tests.apikeys.cast import CountingRedis
from tests.apikeys.serving import serving

pytestmark = pytest.mark.django_db

REF = "0123456789"
GOOD = new_secret(REF)  # Well-formed, and nobody's.
MEGABYTE = 1_000_000


def malformed(secret: str) -> list[str]:
    """Return headers that are wrong around or inside of `secret`, which is a key that works or could."""
    schemes = [
        "",
        "Basic",
        "basic",
        "Digest",
        "Token",
        "Bearer:",
        "Bearer=",
        "Bearer,",
        "Bearér",
        "Ｂearer",
        "BEARERS",
    ]
    schemes += [
        "Negotiate",
        "ApiKey",
        "X-Bearer",
        '"Bearer"',
        "Bearer\x00",
        "Be arer",
        "null",
        "undefined",
        "bearer\t",
    ]
    wrong = [f"{scheme} {secret}" for scheme in schemes]
    wrong += [
        secret,
        f"={secret}",
        f"Bearer{secret}",
        f"Bearer\t{secret}",
        f"Bearer\x0b{secret}",
        f"\tBearer {secret}",
    ]
    wrong += [f"Bearer\xa0{secret}", f"Bearer\u2003{secret}", f"Bearer\n{secret}", f"Bearer\r\n{secret}"]
    around = [
        '"',
        "'",
        "`",
        "<>",
        "()",
        "[]",
        "{}",
        ",",
        ";",
        "=",
        ":",
        ".",
        "/",
        "\\",
        "|",
        "*",
        "%",
        "$",
        "&",
        "#",
    ]
    around += [
        "\x00",
        "\x01",
        "\x0b",
        "\x7f",
        "\x85",
        "\xa0",
        "\u200b",
        "\u202e",
        "\ufeff",
        "\ud800",
        "é",
        "ß",
        "İ",
    ]
    for sign in around:
        wrong += [
            f"Bearer {sign[0]}{secret}",
            f"Bearer {secret}{sign[-1]}",
            f"Bearer {secret[:20]}{sign[0]}{secret[20:]}",
        ]
    wrong += [f"Bearer {secret} {secret}", f"Bearer {secret},{secret}", f"Bearer {secret}, Basic dTpw"]
    wrong += [f"Bearer {secret} x", f"Bearer x {secret}", f"Bearer token={secret}", f'Bearer "{secret}"']
    wrong += [f"Bearer {secret[:n]}" for n in (0, 1, 3, 8, 18, 20, 49, 55)]
    wrong += [f"Bearer {secret}{secret[-1]}", f"Bearer {secret[1:]}", f"Bearer  {secret[:-1]}"]
    wrong += [f"Bearer {secret.upper()}", f"Bearer {secret.swapcase()}", f"Bearer {secret[::-1]}"]
    wrong += [
        f"Bearer {secret.replace('_', '-')}",
        f"Bearer {secret.replace('_', '')}",
        f"Bearer {secret.replace('live', 'dead')}",
    ]
    wrong += [
        f"Bearer pk{secret[2:]}",
        f"Bearer {secret.replace('sk', 'ѕk')}",
        f"Bearer {secret.replace('live', 'test')}",
    ]
    wrong += [
        f"Bearer {digits}"
        for digits in ("٠" * 56, "0" * 56, "-1", "NaN", "1e9", "true", "[]", "{}", "%00", "../..")
    ]
    wrong += [
        "Bearer",
        "Bearer ",
        "Bearer   ",
        "bearer",
        " ",
        "\t",
        "\x00",
        ",",
        "Bearer " * 3,
        "Bearer\x00 \x00",
    ]
    wrong += [
        "Bearer ' OR 1=1 --",
        "Bearer *",
        "Bearer sk_live_*",
        "Bearer {ref}",
        "Bearer ${jndi:x}",
        "Bearer клю",
    ]
    wrong += [
        "Bearer " + "a" * MEGABYTE,
        "Bearer " + "π" * 100_000,
        "Bearer" + " " * MEGABYTE,
        "a" * MEGABYTE,
    ]
    wrong += ["Bearer " + secret + "a" * MEGABYTE, "Bearer " + secret * 1000, "\x00" * 10_000]
    wrong += [
        "Bearer " + bytes(range(128, 256)).decode("latin-1"),
        "Bearer " + "".join(map(chr, range(1, 32))),
    ]
    for place in range(8, 50, 2):  # One character mistyped: the checksum tells.
        wrong.append(f"Bearer {mistyped(secret, place)}")
    return list(dict.fromkeys(wrong))


def mistyped(secret: str, place: int) -> str:
    digits = string.digits + string.ascii_letters
    return secret[:place] + digits[(digits.index(secret[place]) + 1) % 62] + secret[place + 1 :]


NUMBER = 200


def test_there_are_enough_of_them():
    assert len(malformed(GOOD)) >= NUMBER


def test_each_is_401_with_no_look_up_even_around_a_key_that_works(
    client, api_key, counted_redis, django_assert_num_queries
):
    headers = malformed(api_key.secret)
    answers = []

    def call_all() -> None:
        answers.extend(client.get("/api/v1/echo", headers={"Authorization": header}) for header in headers)

    with django_assert_num_queries(0):
        commands = CountingRedis(counted_redis)(call_all)

    odd = {
        header[:60]: answer.status_code
        for header, answer in zip(headers, answers, strict=True)
        if answer.status_code != 401
    }
    assert odd == {}
    assert commands == {}
    codes = {answer.json()["code"] for answer in answers}
    assert codes == {"invalid_key"}
    assert all(answer["WWW-Authenticate"].startswith('Bearer realm="Tollgate"') for answer in answers)
    assert not any(api_key.secret in answer.content.decode() for answer in answers)


def test_each_is_refused_by_the_gateway_and_by_verify_too(client, api_key, redis):
    token = service_token_of_all()
    for header in malformed(api_key.secret):
        answer = client.get(
            "/api/v1/gateway/authorize", headers={"Authorization": header, "X-Tollgate-Token": token}
        )
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_key"), header[:60]


def service_token_of_all() -> str:
    return ServiceToken.objects.issue(name="edge", scopes=ServiceToken.Scope.values)[1]


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER {}", "Bearer   {}", "Bearer {}  "])
def test_what_rfc_6750_allows_is_let_in(client, api_key, form):
    answer = client.get("/api/v1/echo", headers={"Authorization": form.format(api_key.secret)})

    assert answer.status_code == 200


def test_an_empty_header_is_as_none(client):
    assert client.get("/api/v1/echo", headers={"Authorization": ""}).json()["code"] == "not_authenticated"


def test_a_refusal_costs_the_same_however_much_of_a_key_was_right(
    client, api_key, counted_redis, django_assert_num_queries
):
    """What can be seen of constant time without a clock: the same commands, whatever the guess shares with a key."""
    client.get("/api/v1/echo", headers={"Authorization": f"Bearer {api_key.secret}"})
    body = api_key.secret[:-6]
    seen = []
    for shared in (18, 19, 30, 49):  # Of 50 characters; the first 18 are the prefix and the organization.
        guess = body[:shared] + "".join("a" if c != "a" else "b" for c in body[shared:])
        header = {"Authorization": f"Bearer {guess}{checksum(guess)}"}
        with django_assert_num_queries(0):
            seen.append(CountingRedis(counted_redis)(lambda h=header: client.get("/api/v1/echo", headers=h)))

    assert seen == [{"cmdstat_evalsha": 1, "cmdstat_hmget": 1, **clock_read(seen[0])}] * len(seen)


def clock_read(commands: dict[str, int]) -> dict[str, int]:
    return {name: calls for name, calls in commands.items() if name == "cmdstat_time"}


RAW = [
    b"Bearer \xff\xfe\xfd",
    b"Bearer " + bytes(range(0x80, 0x100)),
    b"Bearer \xd0\xba\xd0\xbb\xd1\x8e",
    b"Bearer\t" + GOOD.encode(),
    b"Basic dTpw",
    b"bearer",
    b"Bearer " + b"a" * 7000,
    b"\x01\x02\x03",
]


@pytest.mark.parametrize("value", RAW, ids=lambda value: repr(value[:20]))
def test_raw_bytes_on_the_wire_are_401(tollgate, value):
    status, body = send(tollgate, value)

    assert status == 401
    assert b'"invalid_key"' in body


@pytest.mark.parametrize("value", [b"Bearer a\x00b", b"Bearer " + b"a" * MEGABYTE], ids=["NUL", "1 MB"])
def test_what_a_server_may_refuse_itself_is_an_error_of_the_client(tollgate, value):
    status, _ = send(tollgate, value)

    assert 400 <= status < 500


@pytest.fixture
def tollgate():
    with serving() as address:
        yield address


def send(address: str, value: bytes) -> tuple[int, bytes]:
    """Send a header as bytes, and return status and body of the answer."""
    host, _, port = address.partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as line:
        head = b"GET /api/v1/echo HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nAuthorization: "
        line.sendall(head + value + b"\r\n\r\n")
        answer = b""
        try:
            while part := line.recv(65_536):
                answer += part
        except ConnectionResetError:
            # A server that refuses a header for its size may hang up on the rest of it.
            assert answer
    return int(re.match(rb"HTTP/1\.[01] (\d{3})", answer)[1]), answer
