"""Claims of many numbers share transactions, and each gets its own."""

import asyncio
import uuid

import pytest

from svc_messaging.send_commands import Command
from svc_messaging.sender import claimer as claimer_module
from svc_messaging.sender.claimer import Claimer


class Transactions:
    """Stands where the database does: how many began, and what a test lets happen in them."""

    def __init__(self, monkeypatch) -> None:
        self.began = 0
        self.beginnings, self._allowed = asyncio.Semaphore(0), asyncio.Semaphore(0)
        self.failures: list[Exception] = []
        self.gone: set[uuid.UUID] = set()
        monkeypatch.setattr(claimer_module.claims, "claim", self._claim)

    def allow(self, count: int) -> None:
        for _ in range(count):
            self._allowed.release()

    def begin(self, _principal):
        return self

    async def __aenter__(self):
        self.began += 1
        self.beginnings.release()

    async def __aexit__(self, *_):
        return False

    async def _claim(self, _tx, commands):
        await self._allowed.acquire()
        if self.failures:
            raise self.failures.pop()
        return [{"id": each.message_id} for each in commands if each.message_id not in self.gone]


def commands(count: int) -> list[Command]:
    return [Command(uuid.uuid4(), uuid.uuid4(), "1", uuid.uuid4()) for _ in range(count)]


def ids(asked: list[Command]) -> list[uuid.UUID]:
    return [each.message_id for each in asked]


async def claimed(task) -> list[uuid.UUID]:
    return [row["id"] for row in await asyncio.wait_for(task, 30)]


async def asking(claimer: Claimer, *groups: list[Command]) -> list[asyncio.Task]:
    tasks = [asyncio.ensure_future(claimer.claim(group)) for group in groups]
    await asyncio.sleep(0)
    return tasks


async def test_what_is_asked_for_meanwhile_goes_together_and_everybody_gets_his_own(monkeypatch):
    database = Transactions(monkeypatch)
    claimer, groups = Claimer(database, None), [commands(4) for _ in range(21)]
    database.gone = {groups[3][1].message_id}
    tasks = await asking(claimer, *groups)
    database.allow(9)
    for group, task in zip(groups, tasks, strict=True):
        assert await claimed(task) == [each for each in ids(group) if each not in database.gone]
    assert database.began == 2, "the first alone, the rest together"


async def test_a_transaction_stays_bounded(monkeypatch):
    database = Transactions(monkeypatch)
    database.allow(9)
    claimer, groups = Claimer(database, None), [commands(150) for _ in range(5)]
    for group, task in zip(groups, await asking(claimer, *groups), strict=True):
        assert await claimed(task) == ids(group)
    assert database.began == 5


async def test_a_failure_is_everybodys_whose_claim_it_was_and_nobody_elses(monkeypatch):
    database = Transactions(monkeypatch)
    claimer = Claimer(database, None)
    first, second, third = await asking(claimer, *(commands(150) for _ in range(3)))
    database.failures = [ConnectionError("away")]
    database.allow(9)
    with pytest.raises(ConnectionError, match="away"):
        await claimed(first)
    assert [len(await claimed(each)) for each in (second, third)] == [150, 150]


async def test_what_is_cancelled_while_it_waits_is_not_claimed(monkeypatch):
    database = Transactions(monkeypatch)
    claimer, kept, dropped = Claimer(database, None), commands(1), commands(1)
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
    claimer = Claimer(database, None)
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
