"""Whether the gateway lives and can work, and its metrics: plain text, for machines that ask every few seconds."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from kit import metrics

_REMEMBERED_SECONDS = 1.0
_NO_STORE = {"Cache-Control": "no-store"}

Check = Callable[[], Awaitable[Mapping[str, str]]]
"""What does not work now, each with the reason."""


class Readiness:
    """Asks all that the gateway needs, once a second at most however many ask."""

    def __init__(self, check: Check, *, is_stopping: Callable[[], bool]) -> None:
        self._check = check
        self._is_stopping = is_stopping
        self._lock = asyncio.Lock()
        self._reasons: Mapping[str, str] = {}
        self._checked_at = float("-inf")

    async def reasons(self) -> Mapping[str, str]:
        """Why not to send requests here; empty when all is well."""
        if self._is_stopping():
            return {"gateway": "stopping"}
        async with self._lock:
            if time.monotonic() - self._checked_at > _REMEMBERED_SECONDS:
                self._reasons = await self._check()
                self._checked_at = time.monotonic()
            return self._reasons


def routes(readiness: Readiness) -> list[BaseRoute]:
    async def alive(_request: Request) -> Response:
        return PlainTextResponse("ok\n", headers=_NO_STORE)

    async def ready(_request: Request) -> Response:
        reasons = await readiness.reasons()
        lines = [f"{name}: {reason}\n" for name, reason in reasons.items()] or ["ok\n"]
        return PlainTextResponse("".join(lines), 503 if reasons else 200, headers=_NO_STORE)

    async def told(_request: Request) -> Response:
        exposition, content_type = metrics.exposition()
        return Response(exposition, headers={**_NO_STORE, "Content-Type": content_type})

    return [
        Route("/healthz", alive, methods=["GET"]),
        Route("/readyz", ready, methods=["GET"]),
        Route("/metrics", told, methods=["GET"]),
    ]
