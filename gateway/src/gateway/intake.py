"""What happens to a request's body that nobody wants: the peer must still be able to read our answer.

A connection closed while bytes are on their way is reset, and a reset can destroy the answer before the peer has read
it. Reading on to the end would be no better: refusing 100 MB must not cost 100 MB. So a little more is read, for a
little while, and then the connection is closed.
"""

import asyncio
import contextlib

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope

# Less than this the server skips by itself, and the connection stays open for the next request.
_SKIPPED_BYTES_MAX = 64 * 1024
_DISCARDED_BYTES_MAX = 4 * 1024 * 1024
_DISCARD_SECONDS_MAX = 2.0


class Intake:
    """The receiving side of one request, which knows how much of the body is still to come."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._receive = receive
        headers = Headers(scope=scope)
        is_chunked = "transfer-encoding" in headers
        self._is_large = is_chunked or int(headers.get("content-length", "0")) > _SKIPPED_BYTES_MAX
        # Whoever waits for our word before it sends anything has sent nothing.
        self._is_held_back = headers.get("expect", "").lower() == "100-continue"
        self._is_over = False

    async def __call__(self) -> Message:
        self._is_held_back = False
        message = await self._receive()
        self._is_over = message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message

    @property
    def must_close(self) -> bool:
        """Whether the connection cannot serve another request, since too much of this one's body is unread."""
        return self._is_large and not self._is_over

    async def discard(self) -> None:
        """Read on within the limits, so that a peer that is nearly done gets its answer."""
        left = 0 if self._is_held_back else _DISCARDED_BYTES_MAX
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DISCARD_SECONDS_MAX):
                while left > 0 and not self._is_over:
                    left -= len((await self()).get("body", b""))
