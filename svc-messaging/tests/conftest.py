"""The messaging database as each role sees it. Every test makes tenants of its own, so nothing is cleaned up."""

import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from kit.bus import Bus
from kit.db import Database
from kit.ids import new_id

sys.path.insert(0, str(Path(__file__).parent))

from messaging_rpc import Service, serving


@pytest.fixture(scope="session")
def database(postgres):
    return postgres.database("messaging")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def sql(database) -> AsyncIterator[asyncpg.Connection]:
    """The superuser, for arranging and for looking behind row-level security."""
    connection = await asyncpg.connect(database.superuser_url, server_settings={"timezone": "UTC"})
    yield connection
    await connection.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def app_db(database) -> AsyncIterator[Database]:
    db = await Database.connect(database.app_url, name="test server", connections=8)
    yield db
    await db.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def worker_db(database) -> AsyncIterator[Database]:
    db = await Database.connect(database.worker_url, name="test worker", connections=4)
    yield db
    await db.close()


@pytest.fixture
def tenant_id() -> uuid.UUID:
    return new_id()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def server_bus(nats_server) -> AsyncIterator[Bus]:
    bus = await Bus.connect(nats_server.url, name="test server")
    yield bus
    await bus.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def service(app_db, sql, server_bus) -> AsyncIterator[Service]:
    """The server, with a svc-tenants that knows what tests tell it."""
    async with serving(app_db, sql, server_bus) as service:
        yield service
