"""A browser on the live stream that never gives up: it comes back with the id of the last event it got."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from devstack.traffic.ledger import Ledger
from devstack.workspace import Workspace

STATUSES = ("queued", "unknown", "accepted", "sent", "failed", "delivered", "read", "played")
"""What people see of an outbound message, in the order in which it may only rise (ADR 0014)."""

_RANK = {status: rank for rank, status in enumerate(STATUSES)}
_AGAIN_SECONDS = 0.2
# The stream says that it lives every 15 seconds.
_SILENCE_SECONDS = 40.0


@dataclass(slots=True)
class Watcher:
    """Follows one workspace's events."""

    shop: Workspace
    ledger: Ledger
    statuses: dict[str, str] = field(default_factory=dict)
    """Of each outbound message, the last one told."""
    regressions: list[str] = field(default_factory=list)
    received: dict[str, int] = field(default_factory=dict)
    """How often each wamid was told as received."""
    resets: int = 0
    """How often the stream said that it could not tell what was missed."""
    reconnects: int = 0
    endings: dict[str, int] = field(default_factory=dict)
    _last_id: str = ""

    async def run(self, connected: asyncio.Event) -> None:
        """Watch until cancelled."""
        while True:
            try:
                await self._read(connected)
                self._ended("closed")
            except (aiohttp.ClientError, TimeoutError) as error:
                self._ended(type(error).__name__)
            self.reconnects += 1
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _read(self, connected: asyncio.Event) -> None:
        headers = {"Authorization": f"Bearer {self.shop.token}"}
        if self._last_id:
            headers["Last-Event-ID"] = self._last_id
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=_SILENCE_SECONDS)
        async with self.shop.http.get(f"{self.shop.api}/v1/stream", headers=headers, timeout=timeout) as response:
            if response.status != 200:
                self._ended(str(response.status))
                return
            connected.set()
            event: dict[str, str] = {}
            async for raw in response.content:
                line = raw.decode().rstrip("\n")
                if line:
                    name, _, value = line.partition(": ")
                    event[name] = value
                else:
                    self._take(event)
                    event = {}

    def _take(self, event: dict[str, str]) -> None:
        self._last_id = event.get("id", self._last_id)
        kind = event.get("event", "")
        if kind == "stream.reset":
            self.resets += 1
        elif kind.startswith("messaging.message."):
            self._message(kind, json.loads(event["data"])["data"]["message"])

    def _message(self, kind: str, message: dict[str, Any]) -> None:
        if message["direction"] == "inbound":
            wamid = message["wamid"]
            if kind.endswith(".received"):
                self.received[wamid] = self.received.get(wamid, 0) + 1
            if written := self.ledger.written.get(wamid):
                self.ledger.see(written)
            return
        before, status = self.statuses.get(message["id"], "queued"), message["status"]
        if _RANK[status] < _RANK[before]:
            self.regressions.append(f"{message['id']}: {before} -> {status}")
        self.statuses[message["id"]] = status
        # Found by its text, since the stream may be quicker than the answer to the request.
        if status != "queued" and (answered := self.ledger.answered.get(message["text"]["body"])):
            self.ledger.see(answered)

    def _ended(self, how: str) -> None:
        self.endings[how] = self.endings.get(how, 0) + 1
