"""The live stream behind a real server, on real NATS, read as a browser reads it."""

import asyncio
import time
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import msgspec
import pytest
from starlette.applications import Starlette

from gateway.client_ips import ClientIps
from gateway.edge import Edge
from gateway.http_server import listen, make_server
from gateway.problems import HANDLERS
from gateway.sessions import Sessions
from gateway.settings import GatewaySettings
from gateway.stream.hub import Hub
from gateway.stream.routes import routes
from kit import streams
from kit.bus import Bus
from kit.events import Event, outgoing
from kit.keys import encode_key
from kit.testing.rpc import Authority, make_user
from kit.tokens import ACCESS_SECONDS, AccessTokenVerifier

PATIENCE = 30


@dataclass
class Told:
    """One block of the stream."""

    id: str = ""
    event: str = ""
    data: dict = field(default_factory=dict)
    comment: str = ""
    retry: str = ""

    @property
    def number(self) -> int:
        return self.data["data"]["n"]


class Reader:
    """Reads blocks of one open stream."""

    def __init__(self, response) -> None:
        self.response = response
        self.last_id = ""

    async def block(self) -> Told | None:
        """The next block, None at the end."""
        told = Told()
        async with asyncio.timeout(PATIENCE):
            while line := (await self.response.content.readline()).decode():
                if line == "\n":
                    self.last_id = told.id or self.last_id
                    return told
                name, _, value = line.rstrip("\n").partition(": ")
                if name == "data":
                    told.data = msgspec.json.decode(value)
                else:
                    setattr(told, name or "comment", value)
        return None

    async def event(self) -> Told | None:
        """The next event that a page would see, None at the end."""
        while (told := await self.block()) is not None:
            if told.event:
                return told
        return None

    async def numbers(self, count: int) -> list[int]:
        return [(await self.event()).number for _ in range(count)]


class Live:
    """A running edge with the stream alone."""

    def __init__(self, bus, hub, url, http) -> None:
        self.bus, self.hub, self.url, self.http = bus, hub, url, http
        self.tenant_id = uuid.uuid4()
        self.user = make_user(tenant_id=self.tenant_id, role="agent")

    def token(self, user=None, *, seconds: float = ACCESS_SECONDS) -> str:
        return Authority().user_token(user or self.user, lifetime_seconds=seconds)

    @asynccontextmanager
    async def open(self, last_id: str | None = None, *, token: str | None = None):
        headers = {"Authorization": f"Bearer {token or self.token()}"}
        if last_id is not None:
            headers["Last-Event-ID"] = last_id
        async with self.http.get(self.url, headers=headers, read_bufsize=2**24) as response:
            assert response.status == 200, await response.text()
            yield Reader(response)

    @asynccontextmanager
    async def reading(self, last_id: str | None = None, *, token: str | None = None):
        """As `open`, after the greeting: whatever happens now is told."""
        async with self.open(last_id, token=token) as reader:
            while not (await reader.block()).id:
                pass
            yield reader

    async def publish(
        self, *numbers: int, tenant_id=None, kind="messaging.message.received", headers=None, padding=""
    ) -> int:
        """Events of one message of the stream; gives its sequence."""
        tenant_id = tenant_id or self.tenant_id
        events = [Event(kind, tenant_id, f"messages/{n}", {"n": n, "padding": padding}) for n in numbers]
        [message] = outgoing(events, headers=headers or {})
        return await self.bus.publish(message.subject, message.data, headers=message.headers)

    async def caught_up(self, sequence: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.hub.position.sequence < sequence:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)


def make_settings(nats: str, **changes) -> GatewaySettings:
    given = {"AEROSTIC_NATS_URL": nats, "AEROSTIC_SERVICE_KEY": encode_key(b"s" * 32)}
    return GatewaySettings(**given, **changes)


@asynccontextmanager
async def running(nats: str, **changes):
    """An edge of its own, ended with the block."""
    settings = make_settings(nats, **changes)
    bus = await Bus.connect(nats, name="test")
    await bus.ensure(streams.events())
    hub = Hub(bus, settings)
    stop = asyncio.Event()
    reading = asyncio.create_task(hub.run(stop))
    ips = ClientIps([])
    sessions = Sessions(client_ips=ips, is_production=False, cookie_days=1, allowed_origins=[])
    verifier = AccessTokenVerifier(Authority().keys)
    app = Starlette(routes=routes(hub, sessions, verifier, settings), exception_handlers=HANDLERS)
    server = make_server(Edge(app, client_ips=ips, is_production=False), drain_seconds=5)
    listener = listen("127.0.0.1", 0)
    listener.listen()  # connections may wait from now on
    serving = asyncio.create_task(server.serve([listener]))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/stream"
    http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, sock_connect=PATIENCE))
    live = Live(bus, hub, url, http)
    live.stop = stop
    try:
        await ready(live)
        yield live
    finally:
        stop.set()
        server.should_exit = True
        await asyncio.gather(reading, serving)
        await http.close()
        listener.close()
        await bus.close()


async def ready(live: Live) -> None:
    deadline = time.monotonic() + PATIENCE
    while live.hub._tail is None:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@pytest.fixture
async def live(nats):
    async with running(nats, stream_heartbeat_seconds=0.3) as live:
        yield live


@pytest.fixture
def run_live(nats):
    """Further edges, or one with other settings."""
    return lambda **changes: running(nats, **changes)
