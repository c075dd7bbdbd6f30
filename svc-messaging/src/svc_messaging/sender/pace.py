"""Waiting for one's turn by a limiter: messages leave in the order of asking, as many at once as are due."""

import asyncio
import time
from collections import deque

from svc_messaging.sender.limiter import Limiter, Place

# Less is none to uvloop, which would make the process spin until the moment comes.
_LOOK_SECONDS_MIN = 0.001
# An answer may let the next one leave earlier than was known before.
_LOOK_SECONDS_MAX = 0.05


class Pace:
    """The turns of one number."""

    def __init__(self, per_second: int, *, first_at: float) -> None:
        """`first_at` is a moment of time.monotonic()."""
        self._loop = asyncio.get_running_loop()
        self._limiter = Limiter(per_second, first_at=first_at)
        self._waiting: deque[asyncio.Future[Place]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def set_rate(self, per_second: int) -> None:
        self._limiter.set_rate(per_second)

    async def turn(self) -> Place:
        """Wait until a message may leave, which it then must. Note when it is written, and tell what came of it."""
        turn: asyncio.Future[Place] = self._loop.create_future()
        self._waiting.append(turn)
        if len(self._waiting) == 1:
            self._serve()
        return await turn

    def answered(self, place: Place, read_at: float | None) -> None:
        """The answer was read at that moment of time.monotonic(); None: there is none, or nobody looked."""
        if read_at is None:
            self._limiter.gave_up(place, time.monotonic())
        else:
            self._limiter.answered(place, read_at)

    def rest(self) -> None:
        """There was nothing to send until now."""
        if not self._waiting:
            self._limiter.rest(time.monotonic())

    def pause(self, seconds: float) -> None:
        self._limiter.pause_until(time.monotonic() + seconds)

    def _serve(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = time.monotonic()
        while self._waiting:
            turn = self._waiting[0]
            if not turn.done():
                opens_at = self._limiter.opens_at(now)
                if opens_at > now:
                    pause = min(max(opens_at - now, _LOOK_SECONDS_MIN), _LOOK_SECONDS_MAX)
                    self._timer = self._loop.call_later(pause, self._serve)
                    return
                turn.set_result(self._limiter.take(now))
            self._waiting.popleft()
