"""Requests over kept connections: every answer is honest, also when the other side does what it should not."""

import asyncio
import contextlib
import gc
import socket
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from kit import http_pool
from kit.http_pool import AnswerLost, HttpPool, NotReached

SECONDS = 30
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def post(body: bytes = b"{}") -> bytes:
    return b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


ASKED = post()


Answering = Callable[["Host", bytes, asyncio.StreamWriter], Awaitable[None]]


class Host:
    """An origin that answers as a test says."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self._writers: list[asyncio.StreamWriter] = []
        self._talks: list[asyncio.Task] = []
        self.asked = asyncio.Event()
        self.server: asyncio.Server
        self.port = self.connections = 0
        self.requests: list[bytes] = []

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        self._talks.append(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                request = head + await reader.readexactly(length)
                self.requests.append(request)
                self.asked.set()
                await self._answering(self, request, writer)

    async def close(self) -> None:
        self.server.close()
        await self.hang_up()

    async def hang_up(self) -> None:
        for writer in self._writers:
            writer.close()
        if self._talks:
            await asyncio.wait(self._talks, timeout=SECONDS)


@contextlib.asynccontextmanager
async def hosted(answering: Answering, *, connections: int = 4) -> AsyncIterator[tuple[Host, HttpPool]]:
    host = Host(answering)
    host.server = await asyncio.start_server(host.talk, "127.0.0.1", 0)
    host.port = host.server.sockets[0].getsockname()[1]
    pool = HttpPool(f"http://127.0.0.1:{host.port}", connections=connections)
    try:
        async with asyncio.timeout(SECONDS):
            yield host, pool
    finally:
        pool.close()
        await host.close()


def answer(*parts: bytes, then_close: bool = False) -> Answering:
    async def answering(_host, _request, writer):
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.01)
        if then_close:
            writer.close()

    return answering


async def test_an_answer_comes_back_with_its_moments():
    refused = b"HTTP/1.1 429 Too Many\r\nRetry-After: 7\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n"
    moments: list[float] = []
    async with hosted(answer(refused, b'{"e', b'":1}\n')) as (host, pool):
        reply = await pool.exchange(ASKED, written=moments.append)
    assert (reply.status, reply.body) == (429, b'{"e":1}\n')
    assert (reply.retry_after, reply.content_type) == ("7", "application/json")
    assert moments[0] + 0.01 < reply.read_at < time.monotonic()
    assert host.requests == [ASKED]


async def test_a_header_of_one_answer_is_not_the_next_ones():
    async def refuse_once(host, _request, writer):
        writer.write(OK if len(host.requests) > 1 else OK.replace(b"\r\n\r\n", b"\r\nRetry-After: 7\r\n\r\n"))

    async with hosted(refuse_once) as (_host, pool):
        assert [(await pool.exchange(ASKED)).retry_after for _ in range(2)] == ["7", ""]


async def test_requests_in_turn_share_a_connection():
    async with hosted(answer(OK)) as (host, pool):
        for _ in range(5):
            assert (await pool.exchange(ASKED)).status == 200
    assert host.connections == 1


async def test_chunks_and_interim_answers_are_understood():
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    async with hosted(answer(b"HTTP/1.1 100 Continue\r\n\r\n", chunked)) as (host, pool):
        for _ in range(2):
            assert (await pool.exchange(ASKED)).body == b"abc"
    assert host.connections == 1


async def test_an_answer_without_length_ends_with_its_connection():
    async with hosted(answer(b"HTTP/1.1 502 Bad Gateway\r\n\r\nsorry", then_close=True)) as (_host, pool):
        reply = await pool.exchange(ASKED)
    assert (reply.status, reply.body) == (502, b"sorry")


async def test_a_connection_that_is_to_close_is_not_used_again():
    async with hosted(answer(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")) as (host, pool):
        for _ in range(2):
            await pool.exchange(ASKED)
    assert host.connections == 2


async def test_nothing_that_was_not_asked_for_is_taken_for_the_next_answer():
    async with hosted(answer(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")) as (host, pool):
        for _ in range(3):
            assert (await pool.exchange(ASKED)).body == b"{}"
    assert host.connections == 3


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n",
    ],
)
async def test_an_answer_that_breaks_off_is_lost(said):
    async with hosted(answer(said, then_close=True)) as (_host, pool):
        with pytest.raises(AnswerLost):
            await pool.exchange(ASKED)


async def test_nonsense_is_a_lost_answer():
    async with hosted(answer(b"SMTP ready\r\n")) as (_host, pool):
        with pytest.raises(AnswerLost):
            await pool.exchange(ASKED)


async def test_an_answer_too_large_is_lost(monkeypatch):
    monkeypatch.setattr(http_pool, "_ANSWER_BYTES_MAX", 10)
    async with hosted(answer(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n12345678901")) as (_host, pool):
        with pytest.raises(AnswerLost):
            await pool.exchange(ASKED)


async def test_silence_is_a_lost_answer_after_a_while_and_frees_the_place():
    async def silent_once(host, _request, writer):
        if len(host.requests) > 1:
            writer.write(OK)

    async with hosted(silent_once, connections=1) as (_host, pool):
        pool.answer_seconds = 0.1
        with pytest.raises(AnswerLost):
            await pool.exchange(ASKED)
        pool.answer_seconds = SECONDS
        assert (await pool.exchange(ASKED)).status == 200


async def test_nobody_there_is_told_apart_from_a_lost_answer():
    with socket.socket() as deaf:  # the port is taken, so that nobody else listens there meanwhile
        deaf.bind(("127.0.0.1", 0))
        pool = HttpPool(f"http://127.0.0.1:{deaf.getsockname()[1]}", connections=1)
        for _ in range(3):
            with pytest.raises(NotReached):
                await pool.exchange(ASKED)


@contextlib.contextmanager
def black_hole():
    """An address that swallows what is sent to it: its queue of connections is full, so the kernel drops others."""
    with contextlib.ExitStack() as opened:
        hole = opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            filler = opened.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(hole.getsockname())
        yield hole.getsockname()


async def test_an_address_that_swallows_everything_does_not_keep_messages_from_the_next(monkeypatch):
    looked_up = []
    with black_hole() as hole:
        async with hosted(answer(OK), connections=3) as (host, pool):

            async def both(*asked):
                looked_up.append(asked)
                stream = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
                return [(*stream, hole), (*stream, ("127.0.0.1", host.port))]

            monkeypatch.setattr(http_pool, "_look_up", both)
            replies = await asyncio.gather(*(pool.exchange(ASKED) for _ in range(3)))
    assert [reply.status for reply in replies] == [200] * 3
    assert looked_up == [("127.0.0.1", host.port)], "many connections, one look-up"


async def test_a_host_without_a_certificate_is_not_reached(monkeypatch):
    monkeypatch.setattr(http_pool, "_CONNECT_SECONDS", 0.2)
    async with hosted(answer(OK)) as (host, _plain):
        pool = HttpPool(f"https://127.0.0.1:{host.port}", connections=1)
        for _ in range(2):
            with pytest.raises(NotReached):
                await pool.exchange(ASKED)
    assert host.requests == []


async def test_what_was_idle_for_long_or_was_closed_meanwhile_is_not_used(monkeypatch):
    async with hosted(answer(OK)) as (host, pool):
        await pool.exchange(ASKED)
        await host.hang_up()
        await asyncio.sleep(0.1)
        await pool.exchange(ASKED)
        monkeypatch.setattr(http_pool, "_IDLE_SECONDS", 0)
        await pool.exchange(ASKED)
    assert host.connections == 3


async def test_more_requests_than_connections_wait_for_one():
    async with hosted(answer(b"", OK), connections=3) as (host, pool):
        replies = await asyncio.gather(*(pool.exchange(ASKED) for _ in range(20)))
    assert {reply.status for reply in replies} == {200}
    assert host.connections == 3


async def test_what_may_not_be_written_any_more_is_not_and_its_connection_serves_others():
    def too_late(_moment: float) -> None:
        raise NotReached("too late")

    async with hosted(answer(OK), connections=1) as (host, pool):
        with pytest.raises(NotReached):
            await pool.exchange(post(b"late"), written=too_late)
        await pool.exchange(post(b"good"))
    assert [request[-4:] for request in host.requests] == [b"good"]
    assert host.connections == 1


async def test_who_gives_up_takes_its_connection_with_it_and_nobody_elses_place():
    async def slow_once(host, _request, writer):
        if len(host.requests) > 1:
            writer.write(OK)

    async with hosted(slow_once, connections=1) as (host, pool):
        slow = asyncio.ensure_future(pool.exchange(ASKED))
        waiting = [asyncio.ensure_future(pool.exchange(ASKED)) for _ in range(3)]
        await host.asked.wait()
        waiting[0].cancel()
        slow.cancel()
        assert [(await each).status for each in waiting[1:]] == [200, 200]
        assert host.connections == 2


async def test_a_host_that_has_moved_is_found_when_it_no_longer_answers_where_it_was(monkeypatch):
    async with hosted(answer(OK, then_close=True)) as (old, pool), hosted(answer(OK)) as (new, _):
        place = old

        async def look_up(*_asked):
            return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", place.port))]

        monkeypatch.setattr(http_pool, "_look_up", look_up)
        await pool.exchange(ASKED)
        await old.close()
        place = new
        with pytest.raises(NotReached):
            await pool.exchange(ASKED)
        assert (await pool.exchange(ASKED)).status == 200
    assert len(new.requests) == 1


async def test_what_a_connection_held_is_free_when_it_is_over_whether_the_collector_looks_or_not(monkeypatch):
    made = weakref.WeakSet()

    class Noted(http_pool._Connection):
        def __init__(self, pool):
            super().__init__(pool)
            made.add(self)

    async def until_left(count):
        async with asyncio.timeout(SECONDS):
            while len(made) > count:  # noqa: ASYNC110 (nobody is told when something is freed)
                await asyncio.sleep(0.01)

    monkeypatch.setattr(http_pool, "_Connection", Noted)
    gc.disable()
    try:
        async with hosted(answer(OK)) as (host, pool):
            await asyncio.gather(*(pool.exchange(ASKED) for _ in range(4)))
            assert len(made) == 4
            await host.hang_up()
            await pool.exchange(ASKED)
            await until_left(1)
        await until_left(0)
    finally:
        gc.enable()
