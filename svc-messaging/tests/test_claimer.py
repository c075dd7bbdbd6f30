"""Claims of many numbers share transactions, and each gets its own."""

import asyncio
import uuid

import pytest

from svc_messaging import placements
from svc_messaging.send_commands import Command
from svc_messaging.sender import claimer as claimer_module
from svc_messaging.sender.claimer import Claimer
from svc_messaging.sender.claims import Claimed, Wanted


class Transactions:
    """Stands where the database does: how many began, and what a test lets happen in them."""

    def __init__(self, monkeypatch) -> None:
        self.began = 0
        self.beginnings, self._allowed = asyncio.Semaphore(0), asyncio.Semaphore(0)
        self.failures: list[Exception] = []
        self.gone: set[uuid.UUID] = set()
        self.unseen: set[uuid.UUID] = set()
        monkeypatch.setattr(claimer_module.claims, "claim", self._claim)

    def allow(self, count: int) -> None:
        for _ in range(count):
            self._allowed.release()

    def begin(self, _principal, *, first):
        assert first == placements.HOLD
        return self

    async def __aenter__(self):
        self.began += 1
        self.beginnings.release()

    async def __aexit__(self, *_):
        return False

    async def _claim(self, _tx, wanted, *, partitions):
        assert partitions == 8
        await self._allowed.acquire()
        if self.failures:
            raise self.failures.pop()
        found = [each for each in ids(wanted) if each not in self.gone]
        return Claimed([{"id": each} for each in found if each not in self.unseen], self.unseen)


def claimer_of(database: Transactions) -> Claimer:
    return Claimer(database, None, partitions=8)


def commands(count: int) -> list[Wanted]:
    return [Wanted(Command(uuid.uuid4(), uuid.uuid4(), "1", uuid.uuid4())) for _ in range(count)]


def ids(asked: list[Wanted]) -> list[uuid.UUID]:
    return [each.command.message_id for each in asked]


async def claimed(task) -> list[uuid.UUID]:
    return [row["id"] for row in (await asyncio.wait_for(task, 30)).rows]


async def asking(claimer: Claimer, *groups: list[Wanted]) -> list[asyncio.Task]:
    tasks = [asyncio.ensure_future(claimer.claim(group)) for group in groups]
    await asyncio.sleep(0)
    return tasks


async def test_what_is_asked_for_meanwhile_goes_together_and_everybody_gets_his_own(monkeypatch):
    database = Transactions(monkeypatch)
    claimer, groups = claimer_of(database), [commands(4) for _ in range(21)]
    database.gone = {groups[3][1].command.message_id}
    tasks = await asking(claimer, *groups)
    database.allow(9)
    for group, task in zip(groups, tasks, strict=True):
        assert await claimed(task) == [each for each in ids(group) if each not in database.gone]
    assert database.began == 2, "the first alone, the rest together"


async def test_a_transaction_stays_bounded(monkeypatch):
    database = Transactions(monkeypatch)
    database.allow(9)
    claimer, groups = claimer_of(database), [commands(150) for _ in range(5)]
    for group, task in zip(groups, await asking(claimer, *groups), strict=True):
        assert await claimed(task) == ids(group)
    assert database.began == 5


async def test_a_failure_is_everybodys_whose_claim_it_was_and_nobody_elses(monkeypatch):
    database = Transactions(monkeypatch)
    claimer = claimer_of(database)
    first, second, third = await asking(claimer, *(commands(150) for _ in range(3)))
    database.failures = [ConnectionError("away")]
    database.allow(9)
    with pytest.raises(ConnectionError, match="away"):
        await claimed(first)
    assert [len(await claimed(each)) for each in (second, third)] == [150, 150]


async def test_what_is_cancelled_while_it_waits_is_not_claimed(monkeypatch):
    database = Transactions(monkeypatch)
    claimer, kept, dropped = claimer_of(database), commands(1), commands(1)
    running, waiting = await asking(claimer, kept, dropped)
    waiting.cancel()
    await asyncio.sleep(0)
    database.allow(9)
    assert await claimed(running) == ids(kept)
    assert await claimed((await asking(claimer, kept))[0]) == ids(kept)
    assert database.began == 2
    assert waiting.cancelled()


async def test_what_is_cancelled_in_the_middle_fails_those_it_was_for_and_they_may_ask_again(monkeypatch):
    database = Transactions(monkeypatch)
    claimer = claimer_of(database)
    first, leader, other = await asking(claimer, commands(1), commands(1), commands(1))
    database.allow(1)
    await claimed(first)
    for _ in range(2):
        await database.beginnings.acquire()
    leader.cancel()
    with pytest.raises(ConnectionError):
        await claimed(other)
    database.allow(9)
    assert len(await claimed((await asking(claimer, commands(1)))[0])) == 1


async def test_everybody_hears_which_of_his_own_he_must_look_for(monkeypatch):
    database = Transactions(monkeypatch)
    database.allow(9)
    claimer, groups = claimer_of(database), [commands(3) for _ in range(3)]
    database.unseen = {ids(group)[1] for group in groups[1:]}
    tasks = await asking(claimer, *groups)
    assert [(await task).unseen for task in tasks] == [set(), {ids(groups[1])[1]}, {ids(groups[2])[1]}]
