"""The queue, conditions and the lease's clock, without a cluster."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aerostic_operator.conditions import Verdict, conditions_of, merged
from aerostic_operator.gathering import Gathering
from aerostic_operator.queue import Queue

verdicts = st.builds(
    Verdict,
    phase=st.sampled_from(["ready", "working", "stalled"]),
    reason=st.just("Reason"),
    message=st.text(max_size=5),
    is_synced=st.booleans(),
    differences=st.sampled_from([(), ("a is b",)]),
    pending=st.sampled_from([None, "working", "stalled"]),
)


class TestConditions:
    @given(verdicts)
    def test_exactly_one_phase_holds_and_what_is_pending_beside_it(self, verdict) -> None:
        status = {c.type: c.status for c in conditions_of(verdict)}
        names = {"ready": "Ready", "working": "Reconciling", "stalled": "Stalled"}
        holding = {name for name in names.values() if status[name] == "True"}
        assert holding == {names[verdict.phase], names[verdict.pending or verdict.phase]}

    @given(verdicts, verdicts)
    def test_times_change_with_the_status_alone(self, first, second) -> None:
        before = merged([], conditions_of(first), generation=1, now="then")
        after = merged(before, conditions_of(second), generation=2, now="now")
        old = {c["type"]: c for c in before}
        for condition in after:
            is_same = old[condition["type"]]["status"] == condition["status"]
            assert condition["lastTransitionTime"] == ("then" if is_same else "now")
            assert condition["observedGeneration"] == 2

    @given(verdicts)
    def test_telling_the_same_again_changes_nothing(self, verdict) -> None:
        once = merged([], conditions_of(verdict), generation=1, now="then")
        assert merged(once, conditions_of(verdict), generation=1, now="now") == once


class Bench:
    """A queue with a handler that does as told."""

    def __init__(self, *, workers=4, fails=0) -> None:
        self.queue = Queue(self.handle, workers=workers)
        self.seen, self.running, self.most, self.fails = [], set(), 0, fails
        self.gate = asyncio.Event()
        self.gate.set()

    async def handle(self, key) -> bool:
        assert key not in self.running, "looked at twice at once"
        self.running.add(key)
        self.most = max(self.most, len(self.running))
        await self.gate.wait()
        self.running.discard(key)
        self.seen.append(key)
        self.fails -= 1
        return self.fails < 0

    async def until(self, count) -> None:
        async with asyncio.timeout(30):
            while len(self.seen) < count:  # noqa: ASYNC110 (the queue tells nobody)
                await asyncio.sleep(0.01)


@pytest.fixture
async def bench():
    running = []

    def make(**options):
        bench = Bench(**options)
        running.append(asyncio.create_task(bench.queue.run()))
        return bench

    yield make
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


class TestQueue:
    async def test_a_key_that_waits_is_looked_at_once(self, bench) -> None:
        made = bench(workers=1)
        made.gate.clear()
        for key in ("first", "a", "a", "b", "a"):
            made.queue.add(key)
        made.gate.set()
        await made.until(3)
        await asyncio.sleep(0.05)
        assert made.seen == ["first", "a", "b"]

    async def test_a_key_that_changes_meanwhile_is_looked_at_once_more(self, bench) -> None:
        made = bench()
        made.gate.clear()
        made.queue.add("a")
        async with asyncio.timeout(60):
            while "a" not in made.running:  # noqa: ASYNC110 (the queue tells nobody)
                await asyncio.sleep(0.01)
        made.queue.add("a")
        made.queue.add("a")
        made.gate.set()
        await made.until(2)
        await asyncio.sleep(0.05)
        assert made.seen == ["a", "a"]

    async def test_no_more_at_a_time_than_there_are_workers(self, bench) -> None:
        made = bench(workers=3)
        for key in range(30):
            made.queue.add(key)
        await made.until(30)
        assert made.most <= 3

    async def test_what_failed_is_tried_again(self, bench) -> None:
        made = bench(fails=2)
        made.queue.add("a")
        await made.until(3)
        assert made.seen == ["a"] * 3

    async def test_what_is_forgotten_is_not_tried_again(self, bench) -> None:
        made = bench(fails=5)
        made.queue.add("a")
        # One turn of the loop at a time, so that no timer, such as that of the next try, comes in between.
        while not made.seen:  # noqa: ASYNC110 (the queue tells nobody)
            await asyncio.sleep(0)
        made.queue.forget("a")
        await asyncio.sleep(1.5)
        assert made.seen == ["a"]


class TestGathering:
    async def test_those_who_ask_meanwhile_share_the_next_call(self) -> None:
        calls, gate = [], asyncio.Event()

        async def fetch(keys):
            calls.append(list(keys))
            await gate.wait()
            return {key: key.upper() for key in keys if key != "nobody"}

        found = Gathering(fetch, most=2)
        first = asyncio.create_task(found.get("a"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        others = [asyncio.create_task(found.get(key)) for key in ("b", "nobody", "b", "c", "a")]
        await asyncio.sleep(0)
        gate.set()
        assert await first == "A"
        assert await asyncio.gather(*others) == ["B", None, "B", "C", "A"]
        assert calls == [["a"], ["b", "nobody"], ["c", "a"]], "an old answer serves nobody who asked later"

    async def test_those_who_ask_soon_after_a_call_began_share_the_next(self) -> None:
        calls, seconds = [], 1.0

        async def fetch(keys):
            calls.append((asyncio.get_running_loop().time(), list(keys)))
            return dict.fromkeys(keys, 1)

        found = Gathering(fetch, most=9, seconds=seconds)
        assert await found.get("first") == 1
        tasks = []
        for key in ("a", "b", "c"):
            tasks.append(asyncio.create_task(found.get(key)))
            # A turn of the loop each: a call that did not wait would have begun by now.
            await asyncio.sleep(0)
        assert await asyncio.gather(*tasks) == [1, 1, 1]
        (began, _), (later, shared) = calls
        assert shared == ["a", "b", "c"]
        # Counted from a moment before the first call.
        assert later - began > seconds / 2

    async def test_a_failure_is_told_to_all_who_asked_and_to_nobody_later(self) -> None:
        fails = [True]

        async def fetch(keys):
            if fails.pop():
                raise ValueError("away")
            return dict.fromkeys(keys, 1)

        found = Gathering(fetch, most=9)
        answers = await asyncio.gather(found.get("a"), found.get("b"), return_exceptions=True)
        assert [str(each) for each in answers] == ["away", "away"]
        fails.append(False)
        assert await found.get("a") == 1

    async def test_whoever_is_cancelled_takes_the_answer_from_nobody(self) -> None:
        gate = asyncio.Event()

        async def fetch(keys):
            await gate.wait()
            return dict.fromkeys(keys, 1)

        found = Gathering(fetch, most=9)
        gone, stays = asyncio.create_task(found.get("a")), asyncio.create_task(found.get("a"))
        await asyncio.sleep(0)
        gone.cancel()
        gate.set()
        assert await stays == 1
