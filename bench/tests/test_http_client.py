"""The generators' HTTP client against a real server."""

import asyncio

import pytest

from bench.http_client import Load, is_whole

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "whole"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", True),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx: y\r\n\r\nhi", False),
        (b"HTTP/1.1 200 OK\r\ncontent-le", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", True),
    ],
)
def test_an_answer_is_whole_when_its_length_is_there(data, whole) -> None:
    assert is_whole(data) is whole


class Server:
    """Answers every request in two pieces; every `breaks_at`th breaks the connection."""

    def __init__(self, breaks_at: int = 0) -> None:
        self.breaks_at = breaks_at
        self.requests = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.requests += 1
                if self.breaks_at and self.requests % self.breaks_at == 0:
                    break
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-")
                await writer.drain()
                await asyncio.sleep(0)
                writer.write(b"length: 2\r\n\r\nhi")
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


async def loaded(server: Server, how) -> Load:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    load = Load("127.0.0.1", listening.sockets[0].getsockname()[1], connections=3, next_request=lambda: (REQUEST, ""))
    await load.open()
    await how(load)
    await load.close()
    listening.close()
    return load


async def test_an_open_loop_sends_as_many_as_fall_due() -> None:
    server = Server()
    load = await loaded(server, lambda load: load.open_loop(500, 0.4))
    assert server.requests == 200
    assert load.statuses == {200: 200}
    assert len(load.seconds) == 200
    assert min(load.seconds) > 0


async def test_a_broken_connection_counts_as_an_answer_without_status_and_is_opened_anew() -> None:
    load = await loaded(Server(breaks_at=50), lambda load: load.open_loop(500, 0.4))
    assert sum(load.statuses.values()) == 200
    assert load.statuses[0] == 4


async def test_a_closed_loop_ends_when_all_is_sent() -> None:
    server = Server()
    load = await loaded(server, lambda load: load.closed_loop(3600, most=10))
    assert (server.requests, load.statuses) == (10, {200: 10})


async def test_a_closed_loop_waits_for_its_last_answers() -> None:
    server = Server()
    load = await loaded(server, lambda load: load.closed_loop(0.2))
    assert load.statuses == {200: server.requests}
    assert server.requests > 3
