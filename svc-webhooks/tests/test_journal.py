"""The journal alone: its limits, and a failure that nobody foresaw."""

import asyncio

import pytest
from ingest_harness import SECONDS

from svc_webhooks import journal as journal_module
from svc_webhooks.journal import Journal, NotDurable


class Bus:
    """Publishes when it is allowed to, or fails. `slow`: the only subject that needs to be allowed."""

    def __init__(self, error: Exception | None = None, slow: str = "") -> None:
        self.allowed = asyncio.Event()
        self.error = error
        self.slow = slow
        self.asked = 0
        self.published: list[str] = []

    async def publish(self, subject: str, data: bytes) -> int:
        self.asked += 1
        if self.slow in {"", subject}:
            await self.allowed.wait()
        if self.error is not None:
            raise self.error
        self.published.append(subject)
        return len(self.published)


def append(journal: Journal, *parts: tuple[str, bytes]) -> asyncio.Future[None]:
    """Done when the parts are on disk."""
    outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def settled(error: NotDurable | None) -> None:
        outcome.set_result(None) if error is None else outcome.set_exception(error)

    journal.append(list(parts), traceparent="", settled=settled)
    return outcome


async def until_waiting(journal: Journal, count: int) -> None:
    async with asyncio.timeout(SECONDS):
        while journal.waiting != count:  # noqa: ASYNC110 (the journal tells no one)
            await asyncio.sleep(0)


async def test_more_webhooks_than_may_wait_are_refused_at_once():
    bus = Bus()
    journal = Journal(bus, waiting_max=3)
    waiting = [append(journal, ("0", b"x")) for _ in range(3)]
    await until_waiting(journal, 3)
    with pytest.raises(NotDurable, match="too many"):
        await append(journal, ("1", b"x"))
    bus.allowed.set()
    await asyncio.gather(*waiting)
    await append(journal, ("1", b"x"))


async def test_more_bytes_than_may_wait_are_refused_at_once(monkeypatch):
    monkeypatch.setattr(journal_module, "WAITING_BYTES_MAX", 10)
    bus = Bus()
    journal = Journal(bus, waiting_max=100)
    waiting = append(journal, ("0", b"12345"), ("1", b"1234"))
    await until_waiting(journal, 1)
    with pytest.raises(NotDurable, match="too many"):
        await append(journal, ("1", b"12"))
    bus.allowed.set()
    await waiting
    await append(journal, ("1", b"1234567890"))


async def test_a_partition_that_is_slow_holds_up_no_other():
    bus = Bus(slow="meta.0")
    journal = Journal(bus, waiting_max=10)
    slow = append(journal, ("0", b"x"))
    await until_waiting(journal, 1)
    await append(journal, ("1", b"x"))
    assert not slow.done()
    bus.allowed.set()
    await slow


async def test_an_unforeseen_failure_refuses_all_who_wait_and_shows_itself():
    failures = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: failures.append(context["exception"]))
    try:
        bus = Bus(error=ZeroDivisionError())
        journal = Journal(bus, waiting_max=10)
        waiting = [append(journal, ("0", b"x" * journal_module.BYTES_MAX)) for _ in range(3)]
        await until_waiting(journal, 3)
        bus.allowed.set()
        async with asyncio.timeout(SECONDS):
            outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [NotDurable] * 3
        assert journal.waiting == 0
        # The next one starts anew.
        bus.error = None
        await append(journal, ("0", b"x"))
    finally:
        loop.set_exception_handler(None)
    assert [type(failure) for failure in failures] == [ZeroDivisionError]


async def test_an_envelope_leaves_early_once_enough_webhooks_wait(monkeypatch):
    monkeypatch.setattr(journal_module, "GATHER_SECONDS", 3600)
    bus = Bus()
    bus.allowed.set()
    journal = Journal(bus, waiting_max=100)
    await append(journal, ("0", b"1"))
    waiting = [append(journal, ("0", b"2")) for _ in range(journal_module.BODIES_ENOUGH - 1)]
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(bus.published) == 1
    waiting.append(append(journal, ("0", b"3")))
    async with asyncio.timeout(SECONDS):
        await asyncio.gather(*waiting)
    assert len(bus.published) == 2


async def test_what_came_while_an_envelope_was_on_its_way_leaves_at_once_when_it_is_enough(monkeypatch):
    monkeypatch.setattr(journal_module, "GATHER_SECONDS", 3600)
    bus = Bus()
    journal = Journal(bus, waiting_max=100)
    first = append(journal, ("0", b"1"))
    async with asyncio.timeout(SECONDS):
        while not bus.asked:  # noqa: ASYNC110 (the bus tells no one)
            await asyncio.sleep(0)
        waiting = [append(journal, ("0", b"2")) for _ in range(journal_module.BODIES_ENOUGH)]
        bus.allowed.set()
        await asyncio.gather(first, *waiting)
    assert len(bus.published) == 2


async def test_while_envelopes_fail_one_webhook_tries_and_the_others_are_refused_at_once():
    bus = Bus(error=ConnectionError())
    journal = Journal(bus, waiting_max=100)
    first, behind = append(journal, ("0", b"1")), append(journal, ("0", b"2"))
    await until_waiting(journal, 2)
    bus.allowed.set()
    assert [type(each) for each in await asyncio.gather(first, behind, return_exceptions=True)] == [NotDurable] * 2
    bus.allowed.clear()
    bus.error = None
    await asyncio.sleep(2 * journal_module.GATHER_SECONDS)
    tries = append(journal, ("0", b"3"))
    await until_waiting(journal, 1)
    with pytest.raises(NotDurable, match="not acknowledged"):
        await append(journal, ("0", b"4"))
    assert not tries.done()
    bus.allowed.set()
    await tries
    await asyncio.gather(*(append(journal, ("0", b"5")) for _ in range(3)))


async def test_partitions_that_rest_are_forgotten_and_those_at_work_are_not(monkeypatch):
    monkeypatch.setattr(journal_module, "IDLE_PARTITIONS_MAX", 10)
    monkeypatch.setattr(journal_module, "GATHER_SECONDS", 0)
    bus = Bus(slow="meta.slow")
    journal = Journal(bus, waiting_max=100)
    slow = append(journal, ("slow", b"1"))
    for tenant in range(100):
        await append(journal, (f"{tenant}-0", b"x"))
        await asyncio.sleep(0)
        assert len(journal._partitions) <= 11
    behind = append(journal, ("slow", b"2"))
    assert not slow.done()
    bus.allowed.set()
    await asyncio.gather(slow, behind)
    # The partition at work was kept: its second envelope came after the first.
    assert bus.published[-2:] == ["meta.slow", "meta.slow"]
    assert len(bus.published) == 102
