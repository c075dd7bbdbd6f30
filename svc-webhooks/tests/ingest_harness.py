"""What surrounds an ingest in tests: a line to NATS that can be held and cut, the journal's reader, Meta's client."""

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit, urlunsplit

import aiohttp
from webhook_factories import signature

from devstack.ports import LOOPBACK
from kit import envelopes, streams
from kit.bus import Bus
from kit.envelopes import Entry

SECONDS = 60
"""No wait of a test is longer."""


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(SECONDS):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.01)


class Line:
    """A TCP line to the real NATS: it can be cut, mended, and kept from carrying what NATS says."""

    def __init__(self, target: str, port: int) -> None:
        """`port` is where it begins, now and whenever it is mended."""
        self._target = urlsplit(target)
        self._port = port
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._answers = asyncio.Event()
        self._answers.set()

    @property
    def url(self) -> str:
        place = f"{self._target.username}:{self._target.password}@{LOOPBACK}:{self._port}"
        return urlunsplit(self._target._replace(netloc=place))

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._carry, LOOPBACK, self._port)

    async def cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """NATS hears and stores, but its acknowledgements wait until the block ends."""
        self._answers.clear()
        try:
            yield
        finally:
            self._answers.set()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with suppress(ConnectionError, asyncio.CancelledError):
            far_reader, far_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(_pump(reader, far_writer))
                    group.create_task(_pump(far_reader, writer, self._answers))
            finally:
                far_writer.close()
        writer.close()
        self._tasks.discard(task)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, gate: asyncio.Event | None = None) -> None:
    with suppress(ConnectionError):
        while data := await source.read(65536):
            if gate is not None:
                await gate.wait()
            sink.write(data)
            await sink.drain()
    sink.close()


class Journal:
    """The stream META, read beside the ingest."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus

    async def state(self):
        return (await self.bus.js.stream_info(streams.META)).state

    async def envelopes(self) -> list[tuple[str, list[Entry]]]:
        """Subject and entries of every message."""
        state = await self.state()
        numbers = range(state.first_seq, state.last_seq + 1) if state.messages else ()
        messages = [await self.bus.js.get_msg(streams.META, number) for number in numbers]
        return [(message.subject, envelopes.decode(message.data)) for message in messages]

    async def bodies(self) -> list[bytes]:
        return [entry.body for _, entries in await self.envelopes() for entry in entries]

    async def until_written(self) -> None:
        """Until the stream holds anything."""

        async def holds() -> bool:
            return (await self.state()).messages > 0

        await eventually(holds)


class Client:
    """Meta's side of the line."""

    def __init__(self, port: int, http: aiohttp.ClientSession) -> None:
        self.port = port
        self.http = http
        self.url = f"http://{LOOPBACK}:{port}"

    async def post(self, body: bytes, headers: dict[str, str] | None = None) -> int:
        """The status that answers a webhook; signed unless other headers are given."""
        if headers is None:
            headers = {"X-Hub-Signature-256": signature(body)}
        async with self.http.post(f"{self.url}/webhooks/meta", data=io.BytesIO(body), headers=headers) as answer:
            await answer.read()
            return answer.status

    async def until(self, status: int, path: str = "/readyz") -> None:
        async def answers() -> bool:
            with suppress(aiohttp.ClientConnectionError):
                async with self.http.get(f"{self.url}{path}") as answer:
                    return answer.status == status
            return False

        await eventually(answers)

    async def until_waiting(self, count: int) -> None:
        """Until so many webhooks wait for the disk."""

        async def wait() -> bool:
            [line] = [
                line for line in (await self.metrics()).splitlines() if line.startswith("aerostic_journal_waiting ")
            ]
            return float(line.split()[1]) >= count

        await eventually(wait)

    async def metrics(self) -> str:
        async with self.http.get(f"{self.url}/metrics") as answer:
            assert answer.status == 200
            return await answer.text()
