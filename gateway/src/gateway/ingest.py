"""The ingest as the gateway reaches it: waited for while it is restarted, asked again where a kept connection ended."""

import asyncio
from contextlib import suppress

import structlog

from gateway.settings import GatewaySettings
from kit.http_pool import AnswerLost, HttpPool, NotReached, Reply

log = structlog.get_logger()

_AWAITED_SECONDS = 3.0
"""A process that is started again is back by then. Meta waits longer than that before it gives a webhook up."""
_PROBE_SECONDS = 0.05


class Ingest:
    """Connections to it, as many as the settings allow; further webhooks wait for one to be free."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._pool = HttpPool(
            settings.ingest_url, connections=settings.webhook_connections, answer_seconds=settings.webhook_seconds
        )
        self.netloc = self._pool.netloc
        self._away_since: float | None = None
        self._turn = asyncio.Lock()

    async def pass_on(self, request: bytes) -> Reply:
        """The ingest's answer to a whole request. Raises NotReached or AnswerLost."""
        try:
            return await self._ask(request)
        except NotReached as error:
            if self._away_since is None:
                self._away_since = asyncio.get_running_loop().time()
                log.warning("ingest_away", error=repr(error))
            return await self._ask_when_back(request)

    def close(self) -> None:
        """Nothing is under way any more."""
        self._pool.close()

    async def _ask_when_back(self, request: bytes) -> Reply:
        """One at a time tries whether it is back, however many wait. Raises NotReached when that takes too long."""
        async with self._turn:
            while self._away_since is not None:
                if asyncio.get_running_loop().time() - self._away_since > _AWAITED_SECONDS:
                    raise NotReached("away")
                await asyncio.sleep(_PROBE_SECONDS)
                with suppress(NotReached):
                    return await self._ask(request)
        return await self._ask(request)

    async def _ask(self, request: bytes) -> Reply:
        try:
            reply = await self._pool.exchange(request)
        except AnswerLost:
            # An ingest that is being replaced closed the kept connection at this moment. Its successor has a new one,
            # and a webhook that is journalled twice has its effect once.
            reply = await self._pool.exchange(request)
        if self._away_since is not None:
            log.info("ingest_back", seconds=round(asyncio.get_running_loop().time() - self._away_since, 2))
            self._away_since = None
        return reply
