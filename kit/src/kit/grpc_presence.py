"""Whether a called service is there: one that is started again is waited for, one that stays away is not."""

import asyncio

import grpc

_AWAITED_SECONDS = 3.0
"""A process that is started again is back by then."""
_LOOK_SECONDS = 0.05

# An idle channel connects with the next call.
_THERE = (grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.IDLE)


class Presence:
    """Of the service behind one channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._away_since: float | None = None
        self._looking: asyncio.Task[None] | None = None

    async def awaited(self) -> None:
        """Returns when the service is there, at once where it has been away for too long: the call then says so."""
        if self._channel.get_state() in _THERE:
            self._away_since = None
            return
        now = asyncio.get_running_loop().time()
        if self._away_since is None:
            self._away_since = now
        if now - self._away_since > _AWAITED_SECONDS:
            return
        # One looks for all.
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(until=self._away_since + _AWAITED_SECONDS))
        await asyncio.shield(self._looking)

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})

    async def _look(self, *, until: float) -> None:
        loop = asyncio.get_running_loop()
        # gRPC tells of changes only to whoever names the state that he knows, and keeps those who gave up.
        while loop.time() < until and self._channel.get_state(try_to_connect=True) not in _THERE:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_SECONDS)
