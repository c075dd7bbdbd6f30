"""Reading request bodies with limits: of bytes, refused before they are read, and of time."""

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request

from gateway.problems import BodyTimeout, BodyTooLarge


async def read(request: Request, *, bytes_max: int, seconds_max: float) -> bytes:
    """The whole body. Raises BodyTooLarge, at once where the head tells the length, or BodyTimeout."""
    try:
        # Of the whole, not of each piece: whoever sends a byte now and then must come to an end too.
        async with asyncio.timeout(seconds_max):
            pieces = [piece async for piece in stream(request, bytes_max=bytes_max, seconds_max=seconds_max)]
    except TimeoutError:
        raise BodyTimeout from None
    return b"".join(pieces)


async def stream(request: Request, *, bytes_max: int, seconds_max: float) -> AsyncIterator[bytes]:
    """The body's pieces as they come, each within so many seconds. Raises as `read`; ClientDisconnect when the client
    went away in the middle.
    """
    refuse_early(request, bytes_max=bytes_max)
    seen = 0
    while True:
        try:
            async with asyncio.timeout(seconds_max):
                message = await request.receive()
        except TimeoutError:
            raise BodyTimeout from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        piece: bytes = message.get("body", b"")
        seen += len(piece)
        if seen > bytes_max:
            raise BodyTooLarge(bytes_max)
        if piece:
            yield piece
        if not message.get("more_body", False):
            return


def is_expected(request: Request) -> bool:
    """Whether the head announces a body."""
    return "transfer-encoding" in request.headers or request.headers.get("content-length", "0") != "0"


def refuse_early(request: Request, *, bytes_max: int) -> None:
    """Raises BodyTooLarge where the head says so; nothing of the body is read then."""
    length = request.headers.get("content-length")
    if length is not None and int(length) > bytes_max:
        raise BodyTooLarge(bytes_max)
