"""The ingest as it runs: real HTTP in front, real NATS behind it."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from ingest_harness import SECONDS, Client, Journal, Line
from webhook_factories import OLD_SECRET, SECRET, VERIFY_TOKEN

from devstack.ports import PortClaims
from kit import acknowledged, streams
from kit.bus import Bus
from svc_webhooks import __main__ as program
from svc_webhooks import journal as journal_module
from svc_webhooks.settings import IngestSettings


@pytest.fixture
async def line(nats, ports) -> AsyncIterator[Line]:
    line = Line(nats, ports.claim())
    await line.mend()
    yield line
    await line.cut()


@pytest.fixture
async def journal(nats) -> AsyncIterator[Journal]:
    bus = await Bus.connect(nats, name="test")
    await bus.ensure(streams.meta())
    yield Journal(bus)
    await bus.close()


@pytest.fixture
def ports():
    claims = PortClaims()
    yield claims
    claims.release()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(SECONDS)) as session:
        yield session


@pytest.fixture
def environment(ports) -> dict[str, str]:
    """The settings of an ingest, but for NATS."""
    return {
        "AEROSTIC_META_PARTITIONS": "8",
        "AEROSTIC_WEBHOOKS_PORT": str(ports.claim()),
        "AEROSTIC_WEBHOOKS_APP_SECRETS": f"{SECRET}, {OLD_SECRET}",
        "AEROSTIC_WEBHOOKS_VERIFY_TOKEN": VERIFY_TOKEN,
    }


@pytest.fixture
def patient(monkeypatch) -> None:
    """An acknowledgement may take as long as a test holds it up."""
    monkeypatch.setattr(journal_module, "PUBLISH_SECONDS", SECONDS)
    monkeypatch.setattr(acknowledged, "_SECONDS", SECONDS)


@pytest.fixture
async def ingest(line, journal, environment, http, monkeypatch) -> AsyncIterator[Client]:
    """A running ingest, of this process, with the settings and the wiring of the real one."""
    for name, value in {**environment, "AEROSTIC_NATS_URL": line.url}.items():
        monkeypatch.setenv(name, value)
    stop = asyncio.Event()
    running = asyncio.create_task(program._ingest(IngestSettings.load(), stop))
    client = Client(int(environment["AEROSTIC_WEBHOOKS_PORT"]), http)
    await client.until(200)
    yield client
    stop.set()
    async with asyncio.timeout(SECONDS):
        await running
