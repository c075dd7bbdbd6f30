"""The rate limit of one number: places within a second, and evenly spaced moments to take them.

Meta counts messages per number over every second, by when they arrive. A number with a limit of 1,000 has 1,000 places.
A message takes one when it leaves and gives it back one second after it had surely arrived, so that no second at Meta
holds more, however long messages took on their way. When one had arrived at the latest is known from its answer: the
way there and back takes as long as it took the fastest, and what took longer may have been lost before the arrival.
A message without an answer counts as arrived after three only if the way is known to have worked when it left; else
it may lie in this machine's kernel until the network is back, and keeps its place.
Pure: times are seconds of a monotonic clock that the caller reads.
"""

import heapq
import math
from collections import deque
from dataclasses import dataclass

MARGIN_SECONDS = 0.002
"""By so much the fastest answer that was seen may exceed the fastest possible one. It costs 0.2 % of the limit."""
LATE_SECONDS = 0.1
"""Moments that passed unused while messages waited are made up for, up to so many seconds of them."""

_SECOND = 1.0
_SOON_SECONDS = 1.0
# TCP sends again after pauses that double. Where one message was answered within a second, others of that moment have
# arrived within three, even if the way was cut meanwhile.
_UNANSWERED_SECONDS = 3.0
_STEPS_PER_SECOND = 10


@dataclass(slots=True, eq=False)
class Place:
    """What a message under way takes up of the limit."""

    written_at: float = math.inf
    """When its request was written; it may have to wait for a connection first."""
    is_arrived: bool = False

    def written(self, now: float) -> None:
        self.written_at = now


class Limiter:
    """Whether a message may leave now. Its callers take turns: nobody has asked and not taken yet."""

    def __init__(self, per_second: int, *, first_at: float) -> None:
        """`first_at`: nothing leaves before, so that a new owner does not add to what its predecessor sent."""
        self._limit = per_second
        self._next = first_at
        self._under_way: deque[Place] = deque()
        self._unanswered = 0
        self._given_back_at: list[float] = []  # a heap
        self._fastest = Fastest()
        self._worked: dict[int, float] = {}
        """The latest message of each tenth of a second that was answered within a second: the way worked then."""

    def set_rate(self, per_second: int) -> None:
        self._limit = per_second

    def opens_at(self, now: float) -> float:
        """When the next message may leave as far as is known now: at once where that has passed."""
        self._look(now)
        taken = self._unanswered + len(self._given_back_at)
        if taken < self._limit:
            return self._next
        known = self._given_back_at[0] if self._given_back_at else math.inf
        oldest = self._under_way[0].written_at + _UNANSWERED_SECONDS if self._under_way else math.inf
        return max(self._next, min(known, oldest))

    def take(self, now: float) -> Place:
        """A message leaves; its caller notes when. Moments that were missed while others waited are made up for."""
        self._next = max(self._next, now - LATE_SECONDS) + _SECOND / self._limit
        place = Place()
        self._under_way.append(place)
        self._unanswered += 1
        return place

    def answered(self, place: Place, read_at: float) -> None:
        """Meta's answer was read at that moment."""
        written_at = place.written_at
        self._fastest.add(read_at - written_at, read_at)
        if read_at - written_at < _SOON_SECONDS:
            step = int(written_at * _STEPS_PER_SECOND)
            self._worked[step] = max(written_at, self._worked.get(step, written_at))
        arrived_at = read_at - self._fastest.seconds(read_at)
        if not place.is_arrived:
            self._arrived(place, arrived_at)
        elif arrived_at + _SECOND + MARGIN_SECONDS > read_at:
            # It counted as arrived, and may have done so only just now.
            heapq.heappush(self._given_back_at, arrived_at + _SECOND + MARGIN_SECONDS)

    def gave_up(self, place: Place, now: float) -> None:
        """There is no answer, or there was no request: the message has arrived at any moment until now."""
        if not place.is_arrived:
            self._arrived(place, now)

    def rest(self, now: float) -> None:
        """Nothing waited until now: moments that passed are no reason to hurry."""
        self._next = max(self._next, now)

    def pause_until(self, moment: float) -> None:
        """Let nothing leave before this moment, as Meta asked."""
        self._next = max(self._next, moment)

    def _arrived(self, place: Place, at_the_latest: float) -> None:
        place.is_arrived = True
        self._unanswered -= 1
        heapq.heappush(self._given_back_at, at_the_latest + _SECOND + MARGIN_SECONDS)

    def _look(self, now: float) -> None:
        """Take back what is over. What has no answer for long has arrived where others did: Meta is slow with it."""
        while self._given_back_at and self._given_back_at[0] <= now:
            heapq.heappop(self._given_back_at)
        while self._under_way:
            oldest = self._under_way[0]
            if not oldest.is_arrived:
                if oldest.written_at + _UNANSWERED_SECONDS > now:
                    break
                if self._way_worked(oldest.written_at):
                    self._arrived(oldest, now)
            self._under_way.popleft()

    def _way_worked(self, written_at: float) -> bool:
        """Whether a message written at that moment or just after it was answered soon."""
        step = int(written_at * _STEPS_PER_SECOND)
        if len(self._worked) > 6 * _STEPS_PER_SECOND:
            self._worked = {each: latest for each, latest in self._worked.items() if each >= step}
        return self._worked.get(step, -math.inf) >= written_at or step + 1 in self._worked


class Fastest:
    """The shortest of the last ten to twenty seconds; nothing while there are few to choose from."""

    _SPAN_SECONDS = 10.0
    _FEW = 50

    def __init__(self) -> None:
        self._since = -math.inf
        self._shortest, self._count = math.inf, 0
        self._before = (math.inf, 0)

    def add(self, seconds: float, now: float) -> None:
        self._turn(now)
        self._shortest = min(self._shortest, seconds)
        self._count += 1

    def seconds(self, now: float) -> float:
        self._turn(now)
        shortest, count = self._before
        return min(self._shortest, shortest) if self._count + count >= self._FEW else 0.0

    def _turn(self, now: float) -> None:
        if now - self._since < self._SPAN_SECONDS:
            return
        is_next = now - self._since < 2 * self._SPAN_SECONDS
        self._before = (self._shortest, self._count) if is_next else (math.inf, 0)
        self._shortest, self._count, self._since = math.inf, 0, now


def batch_size(per_second: int) -> int:
    """How many messages to claim at once: 50 ms of the number's rate. All of them become `unknown` if this process
    dies between the claim and the answers, so it stays small.
    """
    return max(1, per_second // 20)
