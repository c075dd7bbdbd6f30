"""A lean stand-in for Meta's send endpoint that is as strict about the rate: of each number's messages in any half-open
second (t - 1, t] no more than its limit are taken, the rest is refused with 130429.

The emulator checks far more and therefore takes more CPU than the two cores of a small machine leave at 1,000 messages
a second. Moments are those of this process's monotonic clock, when the request was read.
"""

import asyncio
import contextlib
import json
import os
import time
from collections import deque
from dataclasses import dataclass, field

import httptools

from bench import children
from bench.children import Json, Tell
from bench.figures import most_within

_JUDGE_NICENESS = -10
_REFUSED = json.dumps(
    {
        "error": {
            "message": "(#130429) Rate limit hit",
            "type": "OAuthException",
            "code": 130429,
            "error_data": {
                "messaging_product": "whatsapp",
                "details": "Cloud API message throughput has been reached.",
            },
            "fbtrace_id": "A",
        }
    }
).encode()


@dataclass(slots=True)
class Number:
    """What one number has sent."""

    limit: int
    taken: list[float] = field(default_factory=list)
    window: deque[float] = field(default_factory=deque)
    refused: int = 0
    repeated: int = 0

    def takes(self, now: float) -> bool:
        window = self.window
        while window and window[0] <= now - 1.0:
            window.popleft()
        if len(window) >= self.limit:
            self.refused += 1
            return False
        window.append(now)
        self.taken.append(now)
        return True


class Meta:
    """All numbers, and when which message of ours came."""

    def __init__(self, limit: int) -> None:
        """`limit`: of all numbers that have none of their own."""
        self._limit = limit
        self.numbers: dict[str, Number] = {}
        self.arrivals: dict[str, float] = {}

    def limit(self, number: str, limit: int) -> None:
        self.numbers[number] = Number(limit)

    def answer(self, number: str, body: bytes) -> tuple[int, bytes]:
        now = time.monotonic()
        sent = json.loads(body)
        sender = self.numbers.setdefault(number, Number(self._limit))
        if not sender.takes(now):
            return 400, _REFUSED
        own = sent["biz_opaque_callback_data"]
        sender.repeated += own in self.arrivals
        self.arrivals[own] = time.time()
        digits = sent["to"].lstrip("+")
        wamid = f"wamid.sink.{own}"
        return 200, (
            f'{{"messaging_product":"whatsapp","contacts":[{{"input":"{sent["to"]}","wa_id":"{digits}"}}],'
            f'"messages":[{{"id":"{wamid}"}}]}}'
        ).encode()

    def count(self) -> Json:
        return {
            "at": time.monotonic(),
            "messages": len(self.arrivals),
            "numbers": {
                number: {"messages": len(each.taken), "lastAt": each.taken[-1] if each.taken else 0.0}
                for number, each in self.numbers.items()
            },
        }

    def report(self) -> Json:
        return {
            "repeated": sum(each.repeated for each in self.numbers.values()),
            "messages": len(self.arrivals),
            "numbers": {
                number: {
                    "sent": len(each.taken),
                    "refused": each.refused,
                    "repeated": each.repeated,
                    "most": most_within(each.taken, 1.0),
                    "moments": each.taken,
                }
                for number, each in self.numbers.items()
            },
        }


class Protocol(asyncio.Protocol):
    """HTTP/1.1 with kept connections, as Meta's edge keeps them."""

    def __init__(self, meta: Meta) -> None:
        self._meta = meta
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._url, self._body = b"", b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's, which are not asyncio's by class

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._url, self._body = url, b""

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        assert self._transport is not None
        path = self._url.decode().strip("/").split("/")
        status, answer = self._meta.answer(path[-2], self._body)
        reason = "OK" if status == 200 else "Bad Request"
        head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {len(answer)}\r\n\r\n"
        self._transport.write(head.encode() + answer)


async def work(spec: Json, tell: Tell) -> Json:
    """Each line that comes in is a command: limit, count, report, arrivals or reset."""
    # Meta is not on this machine: that it is busy must not blur the judge's clock, where we may see to that.
    with contextlib.suppress(PermissionError):
        os.nice(_JUDGE_NICENESS)
    meta = Meta(spec["limit"])
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Protocol(meta), "127.0.0.1", spec["port"], backlog=1024)
    tell({"ready": True})
    async with server:
        while True:
            command = json.loads(await children.next_line())
            if command["do"] == "report":
                tell({**meta.report(), "cpu": time.process_time()})
            elif command["do"] == "arrivals":
                tell({"arrivals": meta.arrivals})
            elif command["do"] == "count":
                tell(meta.count())
            elif command["do"] == "limit":
                meta.limit(command["number"], command["limit"])
                tell({"ready": True})
            else:
                meta = Meta(spec["limit"])
                tell({"ready": True})


if __name__ == "__main__":
    children.main(work)
