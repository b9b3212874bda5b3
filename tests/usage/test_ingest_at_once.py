"""Several senders at the same time, on connections of their own."""

from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest
from django.db import connection

from accounts.models import Organization
from tests.usage.ingesting import event, sell, send, statuses
from usage.models import IngestedEvent, UsageEvent, UsageRollup

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.long]
SENDERS = 6


def at_once(act, each):
    def one(argument):
        try:
            return act(argument)
        finally:
            connection.close()

    with ThreadPoolExecutor(SENDERS) as senders:
        return list(senders.map(one, each))


def units(meter="requests"):
    return UsageRollup.objects.filter(meter=meter).units()


def test_the_same_events_sent_at_once_count_once_and_everybody_is_answered(organization):
    events = [event(organization, str(number), value=2) for number in range(50)]

    answers = at_once(lambda _: statuses(send(*events)), range(SENDERS))

    for column in zip(*answers, strict=True):
        assert sorted(column) == ["accepted", *["duplicate"] * (SENDERS - 1)]
    assert (units(), UsageEvent.objects.count()) == (100, 50)


def test_batches_that_overlap_in_another_order_each_count_what_is_new(organization, owner):
    rival = Organization.objects.open(name="Rival", owner=owner)
    events = [event([organization, rival][number % 2], str(number)) for number in range(60)]
    chance = Random(5)  # noqa: S311 - the same batches each time, and no secret.
    batches = [chance.sample(events, 40) for _ in range(12)]

    answers = at_once(lambda batch: statuses(send(*batch)), batches)

    sent = {each["id"] for batch in batches for each in batch}
    assert sum(answer.count("accepted") for answer in answers) == len(sent) == units()
    assert {code for answer in answers for code in answer} <= {"accepted", "duplicate"}


def test_an_id_that_two_organizations_events_are_sent_by_at_once_is_taken_once(organization, owner):
    organizations = [organization, *(Organization.objects.open(name="Rival", owner=owner) for _ in range(3))]
    ids = [str(number) for number in range(40)]
    batches = [[event(each, id) for id in order] for each in organizations for order in (ids, ids[::-1])]

    answers = at_once(lambda batch: statuses(send(*batch)), batches)

    assert IngestedEvent.objects.count() == units() == len(ids)
    assert sum(answer.count("accepted") for answer in answers) == len(ids)
    assert {code for answer in answers for code in answer} == {"accepted", "duplicate", "conflict"}


def test_maxima_and_values_are_right_when_batches_come_at_once(organization):
    sell(organization, "peaks", "max")
    sell(organization, "users", "unique")
    chance = Random(7)  # noqa: S311 - as above.
    batches = [
        [event(organization, f"p{batch}-{n}", meter="peaks", value=chance.randrange(1000)) for n in range(20)]
        + [event(organization, f"u{batch}-{n}", meter="users", value=chance.randrange(50)) for n in range(20)]
        for batch in range(18)
    ]

    answers = at_once(lambda batch: statuses(send(*batch)), batches)

    values = {"peaks": set(), "users": set()}
    for each in (each for batch in batches for each in batch):
        values[each["meter"]].add(each["value"])
    assert {code for answer in answers for code in answer} == {"accepted"}
    assert units("peaks") == max(values["peaks"])
    assert units("users") == len(values["users"])
