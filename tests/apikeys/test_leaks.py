"""A leaked key: found by anybody, revoked at once, told of by e-mail once; and the rules that find them."""

import re
from smtplib import SMTPException

import pytest
from django.core import mail
from django.core.management import call_command
from redis.exceptions import ConnectionError as Unreachable

from accounts.models import Membership, Organization, Role, User
from apikeys import leaks, scanning, tasks
from apikeys.gate import admit
from apikeys.models import APIKey
from apikeys.secret import new_secret, parse

pytestmark = pytest.mark.django_db
PAGE = "/leaked-key/"
REF = "0123456789"


def report(client, found: str):
    return client.post(PAGE, {"found": found})


def body(page) -> str:
    """Return the page without what differs in every one."""
    return re.sub(r'name="csrfmiddlewaretoken" value="\w+"', "", page.content.decode())


class TestTheForm:
    def test_a_found_key_is_refused_from_its_next_call_on(self, client, api_key):
        assert admit(api_key.secret).admitted

        page = report(client, api_key.secret)

        assert page.status_code == 200
        assert admit(api_key.secret).reason == "invalid_key"
        api_key.key.refresh_from_db()
        assert api_key.key.revoked_for == APIKey.RevokedFor.LEAK

    def test_the_answer_does_not_tell_a_key_from_none(self, client, api_key, organization):
        invented = new_secret(organization.ref)
        answers = [
            body(report(client, found))
            for found in (api_key.secret, api_key.secret, invented, new_secret(REF), "nonsense")
        ]

        assert len(set(answers)) == 1
        assert "If that was a key, it is revoked now" in answers[0]

    def test_keys_are_found_in_the_lines_around_them(self, client, api_key, organization):
        _, other = APIKey.objects.issue(organization=organization, name="other")

        report(client, f'API_KEY="{api_key.secret}"\n# curl -H "Authorization: Bearer {other}" …')

        assert APIKey.objects.active().count() == 0

    def test_every_key_of_a_long_text_is_found(self, client, api_key, organization):
        _, other = APIKey.objects.issue(organization=organization, name="other")
        log = f"401 {api_key.secret}\n" * 30 + f"401 {new_secret(REF)}\n" * 30

        report(client, log + other)

        assert APIKey.objects.active().count() == 0

    @pytest.mark.parametrize("before", ["\\n", "%3d", "my", "sk_live_" + "0" * 46])
    def test_a_key_is_found_whatever_stands_before_it(self, client, api_key, before):
        report(client, f"{before}{api_key.secret}x")

        assert APIKey.objects.active().count() == 0

    def test_the_beginning_of_a_key_revokes_nothing(self, client, api_key):
        report(client, api_key.key.prefix)
        report(client, api_key.secret[:-1])

        assert APIKey.objects.active().count() == 1

    def test_what_was_revoked_before_stays_as_it_was(self, client, api_key):
        api_key.key.revoke()

        report(client, api_key.secret)

        assert APIKey.objects.get().revoked_for == APIKey.RevokedFor.CUSTOMER

    def test_it_asks_for_something(self, client, db):
        assert report(client, " ").status_code == 422
        assert client.get(PAGE).status_code == 200

    def test_the_eleventh_in_a_minute_is_refused_with_429(self, client, api_key):
        answers = [report(client, "nonsense") for _ in range(10)]
        refused = report(client, api_key.secret)

        assert {answer.status_code for answer in answers} == {200}
        assert refused.status_code == 429
        assert 1 <= int(refused["Retry-After"]) <= 61
        assert APIKey.objects.active().count() == 1

    def test_with_redis_out_of_reach_every_answer_is_to_come_back(self, client, api_key, monkeypatch):
        class Gone:
            def ping(self) -> None:
                raise Unreachable

        monkeypatch.setattr("apikeys.leaks.get_redis", Gone)
        answers = [report(client, found) for found in (api_key.secret, "nonsense")]

        assert [answer.status_code for answer in answers] == [503, 503]
        assert body(answers[0]) == body(answers[1])


class TestTheLetter:
    @pytest.fixture
    def leaked(self, api_key, django_capture_on_commit_callbacks, monkeypatch) -> APIKey:
        monkeypatch.setattr("apikeys.leaks.tell_of_leak.delay", tasks.tell_of_leak)
        with django_capture_on_commit_callbacks(execute=True):
            assert leaks.revoke_leaked(f"{api_key.secret} {api_key.secret}") == 1
        api_key.key.refresh_from_db()
        return api_key.key

    def test_owners_and_admins_are_told_by_name_and_prefix_alone(
        self, organization, developer, api_key, request
    ):
        admin = User.objects.create_user("admin@acme.example")
        Membership.objects.create(organization=organization, user=admin, role=Role.ADMIN)
        key = request.getfixturevalue("leaked")

        assert sorted(m.to[0] for m in mail.outbox) == ["admin@acme.example", "owner@acme.example"]
        for message in mail.outbox:
            text = f"{message.subject} {message.body} {message.alternatives[0][0]}"
            assert key.name in message.subject
            assert key.prefix in message.body
            assert api_key.secret[:21] not in text

    def test_it_goes_out_once(self, leaked):
        tasks.tell_of_leak(str(leaked.pk))
        tasks.send_leak_letters()

        assert len(mail.outbox) == 1

    def test_times_are_the_organization_s(self, api_key, organization, request):
        Organization.objects.update(time_zone="Europe/Berlin")
        request.getfixturevalue("leaked")

        assert re.search(r"Revoked:  \d+ \w+ \d{4}, \d\d:\d\d CES?T", mail.outbox[0].body)

    def test_what_could_not_be_sent_is_sent_by_the_next_sweep(self, api_key, monkeypatch):
        def fail(self, messages):
            raise SMTPException("The server is on holiday.")

        leaks.revoke_leaked(api_key.secret)
        with monkeypatch.context() as patched:
            patched.setattr("django.core.mail.backends.locmem.EmailBackend.send_messages", fail)
            assert tasks.send_leak_letters() == 0

        assert tasks.send_leak_letters() == 1
        assert tasks.send_leak_letters() == 0

    def test_who_revokes_their_own_key_gets_no_letter(self, api_key):
        api_key.key.revoke()

        assert tasks.send_leak_letters() == 0


class TestScannerRules:
    """In Python's words, which these rules share with RE2's."""

    def found(self, form: str, text: str) -> list[str]:
        (rule,) = {
            "regex": lambda: [scanning.regex()],
            "gitleaks": lambda: re.findall(r"regex = '''(.+)'''", scanning.gitleaks()),
            "trufflehog": lambda: re.findall(r"key: '(.+)'", scanning.trufflehog()),
            "github": lambda: [self.github_rule()],
        }[form]()
        return [match.group(match.re.groups) for match in re.finditer(rule, text)]

    def github_rule(self) -> str:
        parts = dict(re.findall(r"^(\w+ secret|Secret format): (.+)$", scanning.github(), re.MULTILINE))
        after = parts["After secret"].replace(r"\z", r"\Z")
        return rf"(?:{parts['Before secret']})({parts['Secret format']})(?:{after})"

    @pytest.mark.parametrize("form", scanning.FORMATS)
    @pytest.mark.parametrize("mode", ["live", "test"])
    @pytest.mark.parametrize(
        "around", ["{}", 'KEY="{}"', "Bearer {}\n", "https://x.example/?key={}&y=1", "a,{},b"]
    )
    def test_keys_are_found(self, form, mode, around):
        secret = new_secret(REF, mode=mode)

        assert self.found(form, around.format(secret)) == [secret]

    @pytest.mark.parametrize("form", scanning.FORMATS)
    @pytest.mark.parametrize(
        "around",
        [
            r"line\n{}\nline",
            r"{{\"key\":\t{}}}",
            r"\u0022{}\u0022",
            r"\x22{}\x22",
            "?key%3d{}%26y",
            "%22{}%22",
            "%3D{}",
            "KEY_{}",
        ],
    )
    def test_keys_in_escaped_text_are_found(self, form, around):
        secret = new_secret(REF)

        assert self.found(form, around.format(secret)) == [secret]
        assert self.found(form, around.format(f"{secret}a")) == []

    @pytest.mark.parametrize("form", scanning.FORMATS)
    @pytest.mark.parametrize(
        "look_alike",
        [
            "sk_live_" + "a" * 24,  # Another vendor's.
            "sk_live_" + "a" * 99,
            "sk_live_" + "a" * 47 + "-",
            "sk_prod_" + "a" * 48,
            "SK_LIVE_" + "a" * 48,
            "sk_live_" + "a" * 48 + "_b",
        ],
    )
    def test_look_alikes_are_not(self, form, look_alike):
        assert self.found(form, f"key = {look_alike} ") == []

    @pytest.mark.parametrize("form", ["regex", "gitleaks", "trufflehog"])
    def test_a_key_with_letters_before_it_is_found_rather_than_missed(self, form):
        secret = new_secret(REF)

        assert self.found(form, f"key = 0x{secret}") == [secret]

    def test_what_no_rule_can_tell_the_checksum_does(self):
        invented = "sk_live_" + "a" * 48

        assert self.found("regex", invented) == [invented]
        assert parse(invented) is None

    def test_the_prefix_is_the_operator_s(self, settings, capsys):
        settings.API_KEY_PREFIX = "acme"
        for form in scanning.FORMATS:
            call_command("secret_scanning_rules", format=form)

        said = capsys.readouterr().out
        assert said.count("acme_(?:live|test)_[0-9A-Za-z]{48}") == 4
        assert "sk_" not in said
