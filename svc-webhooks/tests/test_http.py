"""HTTP as the ingest speaks it, over real sockets: order, bounds, and clients that do not behave."""

import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from ingest_harness import SECONDS, eventually

from devstack.ports import LOOPBACK
from svc_webhooks import http
from svc_webhooks.exchange import Exchange, answer
from svc_webhooks.http_server import Server

BODY_BYTES_MAX = 1000
CHUNKED = b"POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


class Site:
    """A running server whose requests wait to be answered, or are answered at once by `respond`."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.exchanges: list[Exchange] = []
        self.refused: list[int] = []
        self.respond: Callable[[Exchange], None] = lambda _exchange: None
        self.stop = asyncio.Event()
        self.server = Server(self._handle, body_bytes_max=BODY_BYTES_MAX, refused=self.refused.append)

    def _handle(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)
        self.respond(exchange)

    async def until_listening(self) -> None:
        async def listens() -> bool:
            with contextlib.suppress(ConnectionError):
                _, writer = await asyncio.open_connection(LOOPBACK, self.port)
                writer.close()
                return True
            return False

        await eventually(listens)

    async def until_arrived(self, count: int) -> None:
        async def arrived() -> bool:
            return len(self.exchanges) >= count

        await eventually(arrived)

    @asynccontextmanager
    async def client(self) -> AsyncIterator["Caller"]:
        reader, writer = await asyncio.open_connection(LOOPBACK, self.port)
        yield Caller(reader, writer)
        writer.close()


class Caller:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def read(self, count: int) -> bytes:
        return await asyncio.wait_for(self.reader.readexactly(count), SECONDS)

    async def rest(self) -> bytes:
        return await asyncio.wait_for(self.reader.read(), SECONDS)


@pytest.fixture
async def site(ports, monkeypatch) -> AsyncIterator[Site]:
    # A client that is refused may take its time to send the rest, which would make its system forget the answer.
    monkeypatch.setattr(http, "_LINGER_SECONDS", SECONDS)
    port = ports.claim()
    site = Site(port)
    running = asyncio.create_task(site.server.run(LOOPBACK, port, site.stop))
    await site.until_listening()
    yield site
    site.stop.set()
    await asyncio.wait_for(running, SECONDS)


def post(body: bytes = b"x", path: str = "/p", *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def test_a_request_arrives_whole_however_it_is_cut(site):
    site.respond = lambda exchange: exchange.answer(OK)
    request = post(b"0123456789", "/a%20b?c=d", "X-Name: Value")
    async with site.client() as client:
        for byte in request:
            client.send(bytes([byte]))
            await client.writer.drain()
            await asyncio.sleep(0)
        assert await client.read(len(OK)) == OK
    [exchange] = site.exchanges
    assert (exchange.method, exchange.path, exchange.query) == (b"POST", b"/a%20b", b"c=d")
    assert (exchange.body, exchange.headers[b"x-name"]) == (b"0123456789", b"Value")


async def test_answers_leave_in_the_order_of_the_requests_whoever_is_ready_first(site):
    async with site.client() as client:
        client.send(post(b"1") + post(b"2") + post(b"3"))
        await site.until_arrived(3)
        for number in (2, 1, 0):
            site.exchanges[number].answer(answer(200, str(number).encode()))
        expected = b"".join(answer(200, str(number).encode()) for number in range(3))
        assert await client.read(len(expected)) == expected


async def test_a_client_that_sends_ahead_is_read_no_further_until_it_is_answered(site):
    many = 5000
    async with site.client() as client:
        client.send(post(b"x" * 900) * many)
        await site.until_arrived(http._OWED_MAX)
        await asyncio.sleep(0.2)
        assert len(site.exchanges) < many / 2
        site.respond = lambda exchange: exchange.answer(OK)
        for exchange in list(site.exchanges):
            exchange.answer(OK)
        assert await client.read(len(OK) * many) == OK * many


async def test_a_body_in_chunks_is_put_together(site):
    site.respond = lambda exchange: exchange.answer(OK)
    async with site.client() as client:
        client.send(
            b"POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        )
        assert await client.read(len(OK)) == OK
    assert site.exchanges[0].body == b"abcde"


async def test_a_client_that_asks_first_is_told_to_go_on(site):
    site.respond = lambda exchange: exchange.answer(OK)
    async with site.client() as client:
        head, body = post(b"abc", "/p", "Expect: 100-continue").split(b"\r\n\r\n")
        client.send(head + b"\r\n\r\n")
        go_on = b"HTTP/1.1 100 Continue\r\n\r\n"
        assert await client.read(len(go_on)) == go_on
        client.send(body)
        assert await client.read(len(OK)) == OK


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param(b"nonsense\r\n\r\n", 400, id="no HTTP"),
        pytest.param(b"POST /p HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400, id="a length that is none"),
        pytest.param(b"GET /p HTTP/1.1\r\nX: " + b"x" * 70_000, 431, id="a head without an end"),
        pytest.param(b"GET /" + b"x" * 70_000, 431, id="an address without an end"),
        pytest.param(
            b"GET /p HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(1000)), 431, id="too many headers"
        ),
        pytest.param(CHUNKED + b"1\r\nx\r\n0\r\n" + b"X: y\r\n" * 50_000, 413, id="trailers without an end"),
        pytest.param(CHUNKED + b"1\r\nx\r\n0\r\nX: " + b"y" * 200_000, 413, id="a trailer without an end"),
        pytest.param(post(b"x" * (BODY_BYTES_MAX + 1)), 413, id="too large"),
    ],
)
async def test_what_cannot_be_taken_is_refused_and_ends_the_connection(site, request_, status):
    async with site.client() as client:
        client.send(request_)
        assert (await client.rest()).startswith(f"HTTP/1.1 {status} ".encode())
    assert (site.refused, site.exchanges) == ([status], [])


async def test_after_a_request_that_says_close_nothing_more_is_taken(site):
    site.respond = lambda exchange: exchange.answer(OK)
    async with site.client() as client:
        client.send(post(b"1", "/p", "Connection: close") + post(b"2"))
        assert b"connection: close" in await client.rest()
    assert [exchange.body for exchange in site.exchanges] == [b"1"]


async def test_an_upgrade_is_answered_as_the_request_that_it_is(site):
    site.respond = lambda exchange: exchange.answer(OK)
    async with site.client() as client:
        client.send(b"GET /p HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nwhatever")
        assert (await client.rest()).startswith(b"HTTP/1.1 200 ")


async def test_a_client_that_left_may_be_answered(site):
    async with site.client() as client:
        client.send(post(b"1"))
        await site.until_arrived(1)

    async def is_gone() -> bool:
        return not site.server.connections

    await eventually(is_gone)
    site.exchanges[0].answer(OK)


async def test_a_client_that_reads_nothing_is_waited_for_and_gets_everything(site):
    large = answer(200, b"x" * 200_000)
    site.respond = lambda exchange: exchange.answer(large)
    many = 100
    async with site.client() as client:
        client.send(post() * many)
        await site.until_arrived(1)
        await asyncio.sleep(0.1)
        assert await client.read(len(large) * many) == large * many


async def test_silent_connections_end_unless_an_answer_is_owed(site):
    async with site.client() as silent, site.client() as halfway, site.client() as waiting:
        halfway.send(post(b"abc")[:-1])
        waiting.send(post(b"abc"))
        await site.until_arrived(1)

        async def are_there() -> bool:
            return len(site.server.connections) == 3

        await eventually(are_there)
        for connection in site.server.connections:
            connection.heard_at -= http.SILENT_SECONDS + 1
        site.server._end_late()
        for client in (silent, halfway):
            with contextlib.suppress(ConnectionError):
                assert await client.rest() == b""
        site.exchanges[0].answer(OK)
        assert await waiting.read(len(OK)) == OK


async def test_trailers_are_no_headers(site):
    site.respond = lambda exchange: exchange.answer(OK)
    async with site.client() as client:
        client.send(CHUNKED + b"1\r\nx\r\n0\r\nX-Hub-Signature-256: forged\r\n\r\n")
        assert await client.read(len(OK)) == OK
    assert b"x-hub-signature-256" not in site.exchanges[0].headers


async def test_many_requests_in_one_read_leave_others_their_turn(site):
    """Between two turns of the loop a connection has a few of its requests handled, not thousands."""
    many, turns, by_turn = 2000, 0, dict[int, int]()

    def count_turns() -> None:
        nonlocal turns
        turns += 1
        if len(site.exchanges) < many:
            asyncio.get_running_loop().call_soon(count_turns)

    def respond(exchange: Exchange) -> None:
        by_turn[turns] = by_turn.get(turns, 0) + 1
        exchange.answer(OK)

    site.respond = respond
    async with site.client() as client:
        count_turns()
        client.send(b"GET / HTTP/1.1\r\n\r\n" * many)
        assert await client.read(len(OK) * many) == OK * many
    assert max(by_turn.values()) <= 2 * http._TURN_MAX
    assert site.server.arriving_bytes == 0


async def test_a_request_that_takes_too_long_to_arrive_is_ended_though_bytes_come(site):
    async with site.client() as slow, site.client() as waiting:
        slow.send(post(b"abc")[:-1])
        waiting.send(post(b"abc"))
        await site.until_arrived(1)

        async def has_begun() -> bool:
            return site.server.arriving_bytes > 0

        await eventually(has_begun)
        for connection in site.server.connections:
            connection._began_at -= http.ARRIVING_SECONDS + 1
        site.server._end_late()
        with contextlib.suppress(ConnectionError):
            assert await slow.rest() == b""
        site.exchanges[0].answer(OK)
        assert await waiting.read(len(OK)) == OK
    assert (site.refused, site.server.arriving_bytes) == ([400], 0)


async def test_bodies_that_arrive_together_are_bounded_and_whole_ones_still_taken(site, monkeypatch):
    monkeypatch.setattr(http, "ARRIVING_BYTES_MAX", 2500)
    site.respond = lambda exchange: exchange.answer(OK)
    async with site.client() as first, site.client() as second, site.client() as third, site.client() as whole:
        for client in (first, second):
            client.send(post(b"x" * 1000)[:-1])

        async def are_arriving() -> bool:
            return site.server.arriving_bytes > 2000

        await eventually(are_arriving)
        third.send(post(b"x" * 1000)[:-1])
        assert (await third.rest()).startswith(b"HTTP/1.1 503 ")
        whole.send(post(b"x" * 1000))
        assert await whole.read(len(OK)) == OK
        for client in (first, second):
            client.send(b"x")
            assert await client.read(len(OK)) == OK
    assert (site.refused, site.server.arriving_bytes) == ([503], 0)


async def test_what_a_connection_held_is_free_when_it_is_over_whether_the_collector_looks_or_not(site):
    gc.disable()
    try:
        async with site.client() as answered, site.client() as early, site.client() as cut, site.client() as refused:
            for client in (answered, early):
                client.send(post())
            await site.until_arrived(2)
            cut.send(post(b"abc")[:-1])
            refused.send(b"nonsense\r\n\r\n")
            assert (await refused.rest()).startswith(b"HTTP/1.1 400 ")
            site.exchanges[0].answer(OK)
            seen = [weakref.ref(connection) for connection in site.server.connections]
            assert len(seen) == 4

        async def are_over() -> bool:
            return not site.server.connections

        await eventually(are_over)
        site.exchanges[1].answer(OK)
        site.exchanges.clear()
        await asyncio.sleep(0)
        assert [connection() for connection in seen] == [None] * 4
    finally:
        gc.enable()


async def test_told_to_stop_it_answers_what_has_arrived_and_ends_the_rest(ports):
    port = ports.claim()
    site = Site(port)
    running = asyncio.create_task(site.server.run(LOOPBACK, port, site.stop))
    await site.until_listening()
    async with site.client() as idle, site.client() as busy:
        busy.send(post(b"1"))
        await site.until_arrived(1)
        site.stop.set()
        assert await idle.rest() == b""
        assert not running.done()
        site.exchanges[0].answer(OK)
        assert b"connection: close" in await busy.rest()
    await asyncio.wait_for(running, SECONDS)
