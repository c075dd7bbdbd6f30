"""The rate limit of a number: below Meta's count in every sliding second there, and hardly below."""

import asyncio
import heapq
import itertools
import math
import time
from bisect import bisect_left

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svc_messaging.sender.limiter import LATE_SECONDS, MARGIN_SECONDS, Limiter, Place, batch_size
from svc_messaging.sender.pace import Pace

rates = st.sampled_from([20, 80, 1000])
jitters = st.sampled_from([0.0, 0.003, 0.05, 0.4])


def most_in_a_second(times: list[float]) -> int:
    """The largest count that any half-open sliding second holds."""
    return max(
        place - bisect_left(times, math.nextafter(moment - 1.0, math.inf)) + 1 for place, moment in enumerate(times)
    )


def send(limiter: Limiter, now: float) -> Place:
    """A message whose answer has not come yet."""
    place = limiter.take(now)
    place.written(now)
    return place


class World:
    """Messages on their way there and answers on their way back, by a clock that only this test turns."""

    WAY_SECONDS = 0.02

    def __init__(self, rate: int, chance, jitter: float) -> None:
        self.limiter, self.now = Limiter(rate, first_at=0), 0.0
        self.arrivals: list[float] = []
        self._chance, self._jitter, self._sent = chance, jitter, 0
        self._answers: list[tuple[float, int, Place, bool]] = []
        self.outage = (math.inf, math.inf)

    def way(self) -> float:
        return self.WAY_SECONDS + self._chance.uniform(0, self._jitter)

    def send(self) -> None:
        """The next message as soon as the limiter lets it, and a moment later, since the machine is busy."""
        while (opens_at := self.limiter.opens_at(self.now)) > self.now:
            self._pass(min(opens_at, self._answers[0][0] if self._answers else math.inf))
        place, left_at = self.limiter.take(self.now), self.now
        place.written(left_at)
        self._sent += 1
        # One in forty goes there and back without delay; what is sure of the rest is only that it takes no less.
        is_fast = self._sent % 40 == 1
        arrived_at = left_at + (self.WAY_SECONDS if is_fast else self._chance.uniform(0, self._jitter / 4) + self.way())
        answered_at = arrived_at + (self.WAY_SECONDS if is_fast else self.way())
        self.arrivals.append(arrived_at)
        is_lost = not is_fast and self._chance.random() < 0.01
        began, ended = self.outage
        if began <= left_at < ended:
            # TCP sends it again after pauses that double, so as long after the outage as that took.
            arrived_at = ended + self._chance.uniform(0, ended - left_at) + self.way()
            answered_at = arrived_at + self.way()
        elif began <= answered_at < ended:
            answered_at = ended + self._chance.uniform(0, ended - answered_at)
        self.arrivals[-1] = arrived_at
        heapq.heappush(self._answers, (answered_at, self._sent, place, is_lost))

    def busy(self, seconds: float) -> None:
        """Nothing is sent and no answer is read."""
        self.now += seconds
        self._read_answers()

    def _pass(self, moment: float) -> None:
        self.now = max(self.now, moment)
        self._read_answers()

    def _read_answers(self) -> None:
        while self._answers and self._answers[0][0] <= self.now:
            _, _, place, is_lost = heapq.heappop(self._answers)
            (self.limiter.gave_up if is_lost else self.limiter.answered)(place, self.now)


@settings(max_examples=40)
@given(rates, jitters, st.randoms(use_true_random=False), st.lists(st.floats(0, 0.3), max_size=12))
def test_no_sliding_second_at_meta_holds_more_than_the_limit_whatever_messages_and_answers_take(
    rate: int, jitter: float, chance, stalls: list[float]
) -> None:
    world, messages = World(rate, chance, jitter), 3 * rate
    stall_before = {chance.randrange(messages): seconds for seconds in stalls}
    for number in range(messages):
        world.busy(stall_before.get(number, 0))
        world.send()
    assert most_in_a_second(sorted(world.arrivals)) <= rate


@settings(max_examples=40)
@given(rates, jitters, st.randoms(use_true_random=False), st.floats(1, 8))
def test_an_outage_of_seconds_does_not_add_what_was_held_up_to_what_leaves_then(
    rate: int, jitter: float, chance, seconds: float
) -> None:
    world = World(rate, chance, jitter)
    world.outage = (1.5, 1.5 + seconds)
    for _ in range(4 * rate):
        world.send()
    assert most_in_a_second(sorted(world.arrivals)) <= rate


@given(rates)
def test_without_jitter_the_limit_is_used_up_to_the_margin(rate: int) -> None:
    world = World(rate, chance=None, jitter=0)
    world.way = lambda: world.WAY_SECONDS
    world._chance = type("Calm", (), {"uniform": lambda *_: 0.0, "random": lambda *_: 1.0})
    for _ in range(8 * rate):
        world.send()
    used = world.arrivals[2 * rate :]
    assert (len(used) - 1) / (used[-1] - used[0]) >= rate * 0.99


def test_messages_leave_evenly_from_the_first_on() -> None:
    limiter, now, left = Limiter(80, first_at=0), 5.0, []
    limiter.rest(now)
    for _ in range(80):
        now = max(now, limiter.opens_at(now))
        send(limiter, now)
        left.append(now)
    assert all(later - earlier == pytest.approx(1 / 80) for earlier, later in itertools.pairwise(left))


def test_a_number_that_rested_has_saved_up_nothing() -> None:
    limiter = Limiter(80, first_at=0)
    limiter.rest(1000)
    assert limiter.opens_at(1000) <= 1000
    send(limiter, 1000)
    assert limiter.opens_at(1000) == pytest.approx(1000 + 1 / 80)


def test_moments_missed_while_messages_waited_are_made_up_for_within_bounds() -> None:
    limiter, left = Limiter(80, first_at=0), 0
    send(limiter, 10)
    while limiter.opens_at(20) <= 20:
        send(limiter, 20)
        left += 1
    assert left == math.floor(LATE_SECONDS * 80) + 1


def test_nothing_leaves_before_a_new_owner_may() -> None:
    limiter = Limiter(80, first_at=101.25)
    limiter.rest(100)
    assert limiter.opens_at(100) == 101.25


def test_a_message_that_may_just_have_arrived_counts_until_a_second_later() -> None:
    limiter = Limiter(1, first_at=0)
    limiter.gave_up(send(limiter, 10.0), 10.8)
    assert limiter.opens_at(10.8) == pytest.approx(11.8 + MARGIN_SECONDS)


def test_answers_that_never_come_hold_places_up_for_seconds_where_others_come() -> None:
    limiter, now, sent = Limiter(20, first_at=0), 0.0, 400
    for number in range(sent):
        while (opens_at := limiter.opens_at(now)) > now:
            now = opens_at
        place = send(limiter, now)
        if number % 10:
            limiter.answered(place, now + 0.01)
    assert now <= sent / 20 * 2


def test_while_no_answers_come_at_all_places_are_kept_since_the_way_may_be_cut() -> None:
    limiter = Limiter(2, first_at=0)
    first, second = send(limiter, 10.0), send(limiter, 10.5)
    assert [limiter.opens_at(now) > now for now in (11.2, 12.6, 20.0, 39.0)] == [True] * 4
    limiter.gave_up(first, 40.0)
    limiter.answered(second, 40.1)
    assert limiter.opens_at(40.1) == pytest.approx(41 + MARGIN_SECONDS)


def test_an_answer_that_comes_after_all_takes_a_place_again() -> None:
    limiter = Limiter(2, first_at=0)
    slow, quick = send(limiter, 10.0), send(limiter, 10.0)
    limiter.answered(quick, 10.01)
    limiter.opens_at(13.5)
    assert limiter.opens_at(15.0) <= 15
    limiter.answered(send(limiter, 15.0), 15.6)
    limiter.answered(slow, 15.5)
    assert limiter.opens_at(15.6) == pytest.approx(16.5 + MARGIN_SECONDS)


def test_what_waits_for_a_connection_keeps_its_place_however_long() -> None:
    limiter = Limiter(1, first_at=0)
    place = limiter.take(10)
    assert limiter.opens_at(50) == math.inf
    place.written(60)
    limiter.answered(place, 60.1)
    assert limiter.opens_at(60.1) == pytest.approx(61.1 + MARGIN_SECONDS)


def test_a_pause_moves_the_next_message_and_never_forwards() -> None:
    limiter = Limiter(80, first_at=0)
    limiter.pause_until(60)
    limiter.pause_until(30)
    assert limiter.opens_at(1) == 60


def test_a_changed_rate_holds_from_the_next_message_on() -> None:
    limiter = Limiter(20, first_at=0)
    send(limiter, 1)
    limiter.set_rate(1000)
    limiter.rest(2)
    send(limiter, 2)
    assert limiter.opens_at(2) - 2 == pytest.approx(0.001)


def test_claims_run_fifty_milliseconds_ahead_at_most() -> None:
    assert [batch_size(rate) for rate in (5, 20, 80, 1000)] == [1, 1, 4, 50]


async def test_messages_take_turns_and_stay_within_every_second_on_a_machine_that_stalls() -> None:
    pace, left = Pace(20, first_at=0), []

    async def send(number: int) -> None:
        place = await pace.turn()
        place.written(time.monotonic())
        left.append((place.written_at, number))
        await asyncio.sleep(0.01)
        pace.answered(place, time.monotonic())

    async with asyncio.TaskGroup() as tasks:
        for number in range(50):
            tasks.create_task(send(number))
        await asyncio.sleep(0.6)
        # What falls due meanwhile leaves all at once.
        time.sleep(0.5)  # noqa: ASYNC251 (that is the point)
    assert [number for _, number in left] == list(range(50))
    assert most_in_a_second([moment for moment, _ in left]) <= 20
