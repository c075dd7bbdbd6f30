"""Live streams of many browsers: notes when each saw each inbound message first; some reconnect and go on from where
they were.
"""

import asyncio
import re
import time
from typing import cast

from bench import children
from bench.children import Json, Tell

_WAMID = re.compile(rb'"wamid":"(wamid\.in\.[^"]+)"')
_ID = re.compile(rb"(?:^|\n)id: ([^\n]+)\n")
_KEEP_BYTES = 200


class Browser(asyncio.Protocol):
    """One open stream, and what it has shown."""

    def __init__(self, place: int, token: str, port: int) -> None:
        self.place = place
        self._token = token
        self._port = port
        self.seen: dict[str, float] = {}
        self.last_id = ""
        self.is_ready = asyncio.Event()
        self.breaks = 0
        self._tail = b""
        self._transport: asyncio.Transport | None = None
        self._leaving = False

    async def connect(self) -> None:
        await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", self._port)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        resume = f"Last-Event-ID: {self.last_id}\r\n" if self.last_id else ""
        head = f"GET /v1/stream HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {self._token}\r\n{resume}\r\n"
        self._tail = b""
        self._transport.write(head.encode())

    def data_received(self, data: bytes) -> None:
        now = time.time()
        self.is_ready.set()
        known = self._tail + data
        for found in _WAMID.finditer(known):
            self.seen.setdefault(found[1].decode(), now)
        ids = _ID.findall(known)
        if ids:
            self.last_id = ids[-1].decode()
        self._tail = known[-_KEEP_BYTES:]

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (the protocol's signature)
        if not self._leaving:
            self.breaks += 1
            asyncio.get_running_loop().create_task(self._again())

    async def _again(self) -> None:
        await asyncio.sleep(0.2)
        await self.connect()

    def cut(self) -> None:
        """Lose the connection, as in a tunnel."""
        if self._transport is not None:
            self._transport.abort()

    def leave(self) -> None:
        self._leaving = True
        self.cut()


async def work(spec: Json, tell: Tell) -> Json:
    browsers = [Browser(place, token, spec["port"]) for place, token in spec["streams"]]
    for browser in browsers:
        await browser.connect()
    for browser in browsers:
        await asyncio.wait_for(browser.is_ready.wait(), 60)
    tell({"open": len(browsers)})
    await asyncio.sleep(spec["cutAfter"])
    for browser in browsers[:: spec["cutEvery"]]:
        browser.cut()
    await children.next_line()
    cut = {id(browser) for browser in browsers[:: spec["cutEvery"]]}
    for browser in browsers:
        browser.leave()
    return {
        "seen": [
            {"place": browser.place, "wasCut": id(browser) in cut, "breaks": browser.breaks, "at": browser.seen}
            for browser in browsers
        ]
    }


if __name__ == "__main__":
    children.main(work)
