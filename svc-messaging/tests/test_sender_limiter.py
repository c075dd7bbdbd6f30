"""The rate limit of a number: below Meta's count in every sliding second, and hardly below."""

import asyncio
import time
from bisect import bisect_left

from hypothesis import given, settings
from hypothesis import strategies as st

from svc_messaging.sender.limiter import Limiter, batch_size

rates = st.sampled_from([20, 80, 1000])


def most_in_a_second(times: list[float]) -> int:
    """The largest count that any sliding second holds."""
    return max(place - bisect_left(times, moment - 1.0) + 1 for place, moment in enumerate(times))


@settings(deadline=None)
@given(rates, st.lists(st.floats(0, 0.2), min_size=200, max_size=2500))
def test_no_sliding_second_holds_more_than_the_limit(rate: int, pauses: list[float]) -> None:
    limiter, now, slots = Limiter(rate, first_slot_at=0), 0.0, []
    for pause in pauses:
        now += pause
        slots.append(limiter.reserve(now))
    assert slots == sorted(slots)
    assert most_in_a_second(slots) <= rate


@given(rates)
def test_asking_without_pause_uses_the_limit_up_to_the_headroom(rate: int) -> None:
    limiter = Limiter(rate, first_slot_at=0)
    slots = [limiter.reserve(0) for _ in range(rate * 3)]
    assert (len(slots) - 1) / slots[-1] >= rate * 0.99


def test_an_idle_limiter_saves_up_nothing() -> None:
    limiter = Limiter(80, first_slot_at=0)
    first, second = limiter.reserve(1000), limiter.reserve(1000)
    assert first == 1000
    assert second - first >= 1 / 80


def test_a_new_owner_waits_out_the_second_of_its_predecessor() -> None:
    assert Limiter(80, first_slot_at=101.0).reserve(100.0) == 101.0


def test_a_pause_moves_the_next_slot_and_never_forwards() -> None:
    limiter = Limiter(80, first_slot_at=0)
    limiter.pause_until(60)
    limiter.pause_until(30)
    assert limiter.reserve(1) == 60


def test_a_changed_rate_holds_from_the_next_slot_on() -> None:
    limiter = Limiter(20, first_slot_at=0)
    limiter.reserve(0)
    limiter.set_rate(1000)
    first = limiter.reserve(1)
    assert limiter.reserve(1) - first < 0.002


def test_claims_run_fifty_milliseconds_ahead_at_most() -> None:
    assert [batch_size(rate) for rate in (5, 20, 80, 1000)] == [1, 1, 4, 50]


async def test_messages_that_leave_late_and_together_stay_within_every_second() -> None:
    limiter, sent = Limiter(20, first_slot_at=0), []

    async def send() -> None:
        await limiter.slot()
        sent.append(asyncio.get_running_loop().time())

    async with asyncio.TaskGroup() as tasks:
        for _ in range(50):
            tasks.create_task(send())
        await asyncio.sleep(0.6)
        # A machine that is busy with something else: what falls due meanwhile leaves all at once.
        time.sleep(0.5)  # noqa: ASYNC251 (that is the point)
    for place, moment in enumerate(sent):
        assert sum(moment - 1 < earlier <= moment for earlier in sent[: place + 1]) <= 20
