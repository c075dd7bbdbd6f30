"""A message's request to Meta: one piece, and nobody else's headers in it."""

import asyncio

import pytest

from kit.http_pool import ignore
from svc_messaging.sender.posts import Posts

SECONDS = 30


async def posted(path: str = "/v24.0/1/messages", token: str = "secret") -> bytes:
    """What arrives at Meta."""
    arrived: list[bytes] = []

    async def answer(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        arrived.append(head + await reader.readexactly(11))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    posts = Posts(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v24.0", connections=1)
    async with asyncio.timeout(SECONDS), server:
        reply = await posts.post(path, b'{"to":"+1"}', token=token, written=ignore)
        posts.close()
    assert (reply.status, reply.body) == (200, b"{}")
    return arrived[0]


async def test_a_request_is_whole():
    head, _, body = (await posted()).partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /v24.0/1/messages HTTP/1.1"
    assert lines[1].startswith(b"Host: 127.0.0.1:")
    assert {b"Authorization: Bearer secret", b"Content-Type: application/json", b"Content-Length: 11"} <= {*lines}
    assert body == b'{"to":"+1"}'


@pytest.mark.parametrize(("path", "token"), [("/p", "a\r\nX: y"), ("/p\r\nX: y", "t"), ("/p HTTP/1.1", "t")])
async def test_no_header_can_be_brought_in(path, token):
    posts = Posts("http://127.0.0.1:1", connections=1)
    with pytest.raises(ValueError, match="printable"):
        await posts.post(path, b"{}", token=token, written=ignore)
