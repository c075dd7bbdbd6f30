"""A reader that does not keep up is cut, costs a bounded amount of memory, and loses nothing."""

import asyncio
import socket
import time
from urllib.parse import urlsplit

from prometheus_client import REGISTRY

PADDING = "x" * 100_000


def cut_readers() -> float:
    return REGISTRY.get_sample_value("aerostic_stream_readers_cut_total") or 0


def open_streams() -> float:
    return REGISTRY.get_sample_value("aerostic_stream_connections") or 0


def connect_without_reading(live) -> socket.socket:
    place = urlsplit(live.url)
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.connect((place.hostname, place.port))
    head = f"GET {place.path} HTTP/1.1\r\nHost: {place.netloc}\r\nAuthorization: Bearer {live.token()}\r\n\r\n"
    reader.sendall(head.encode())
    return reader


async def wait_for(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def publish_much(live, *, until) -> int:
    """Events of 100 KB each until a condition holds; gives how many."""
    for number in range(1000):
        if until():
            return number
        await live.publish(number, padding=PADDING)
    raise AssertionError("the reader was never cut")


async def test_a_reader_that_never_reads_is_cut_and_counted(run_live):
    async with run_live(stream_buffer_bytes_max=300_000) as live:
        await wait_for(lambda: open_streams() == 0)  # those of earlier tests may still be ending
        before = cut_readers()
        reader = connect_without_reading(live)
        await wait_for(lambda: open_streams() == 1)
        published = await publish_much(live, until=lambda: cut_readers() > before)
        await wait_for(lambda: open_streams() == 0)
        reader.close()
        assert published > 3


async def test_a_slow_reader_does_not_hold_up_others_and_catches_up(run_live):
    async with run_live(stream_buffer_bytes_max=300_000) as live:
        before = cut_readers()
        reader = connect_without_reading(live)
        async with live.open("0") as quick:
            published = 0
            while cut_readers() == before:
                assert published < 1000, "the reader was never cut"
                await live.publish(published, padding=PADDING)
                # Before the next one, or this reader might be too slow as well.
                assert (await quick.event()).number == published
                published += 1
        reader.close()
        async with live.open("0") as again:
            assert await again.numbers(published) == list(range(published))


async def test_stopping_does_not_wait_for_a_reader_that_does_not_read(run_live):
    async with run_live(stream_buffer_bytes_max=50_000_000) as live:
        await wait_for(lambda: open_streams() == 0)  # those of earlier tests may still be ending
        reader = connect_without_reading(live)
        await wait_for(lambda: open_streams() == 1)
        for number in range(80):
            await live.publish(number, padding=PADDING)
        live.stop.set()
        await wait_for(lambda: open_streams() == 0)
        reader.close()
