"""When a Tenant's status tells new numbers of its use."""

from datetime import UTC, datetime, timedelta

import pytest

from aerostic_operator.tenants import usage
from aerostic_operator.tenants.model import Record, Usage

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def record(sent=1000, *, numbers=1, month="2026-11") -> Record:
    return Record("t", "Acme", is_suspended=False, connected_numbers=numbers, usage=Usage(month, 10, sent, 900, 1))


BEFORE = usage.told(None, record(), NOON)


def test_the_numbers_are_those_of_the_record() -> None:
    assert BEFORE == {
        "connectedNumbers": 1,
        "month": "2026-11",
        "messagesReceived": 10,
        "messagesSent": 1000,
        "messagesDelivered": 900,
        "messagesFailed": 1,
        "time": "2026-11-24T12:00:00Z",
    }


@pytest.mark.parametrize(
    ("now", "minutes", "is_told"),
    [
        (record(), 600, False),
        (record(1011), 9, False),
        (record(1011), 10, True),
        (record(1010), 59, False),
        (record(1010), 60, True),
        (record(numbers=2), 0, True),
        (record(0, month="2026-12"), 0, True),
    ],
)
def test_they_are_told_anew_when_that_is_worth_a_write(now, minutes, is_told) -> None:
    told = usage.told(BEFORE, now, NOON + timedelta(minutes=minutes))
    assert (told != BEFORE) == is_told
    if is_told:
        assert told["messagesSent"] == now.usage.sent
        assert told["time"] != BEFORE["time"] or minutes == 0
