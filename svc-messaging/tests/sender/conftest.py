"""A sender's engines, a number at the emulator, and a workspace that has it."""

from collections.abc import AsyncIterator

import aiohttp
import asyncpg
import pytest
import pytest_asyncio
from aiohttp import web
from sender_rig import Meta, Shop, Tokens

from kit import streams
from kit.bus import Bus
from kit.db import Database
from meta_emulator import app as emulator_app
from meta_emulator import lifecycle
from meta_emulator.emulator import Emulator
from meta_emulator.settings import Settings as EmulatorSettings
from svc_messaging.sender.credentials import Credentials


@pytest.fixture
def database(postgres):
    """Of its own for each test: a sender takes over whatever waits in its database."""
    fresh = postgres.fresh_database("messaging")
    yield fresh
    fresh.drop()


@pytest_asyncio.fixture
async def sql(database):
    connection = await asyncpg.connect(database.superuser_url, server_settings={"timezone": "UTC"})
    yield connection
    await connection.close()


@pytest_asyncio.fixture
async def db(database):
    db = await Database.connect(database.worker_url, name="test sender", connections=6)
    yield db
    await db.close()


@pytest_asyncio.fixture
async def bus(nats):
    bus = await Bus.connect(nats, name="test sender")
    await bus.ensure(streams.meta(), streams.send(), streams.routes(), streams.events(), streams.dead())
    yield bus
    await bus.close()


@pytest_asyncio.fixture
async def meta() -> AsyncIterator[Meta]:
    emulator = Emulator(EmulatorSettings(app_secret="s", verify_token="v", callback_url="http://127.0.0.1:9/none"))
    await lifecycle.start(emulator)
    runner = web.AppRunner(emulator_app.build(emulator), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as http:
        yield Meta(f"http://127.0.0.1:{runner.addresses[0][1]}", http)
    await runner.cleanup()
    await lifecycle.stop(emulator)


@pytest_asyncio.fixture
async def shop(sql, db, meta, tenant_id) -> Shop:
    tokens = Tokens()
    made = await meta.call("POST", "numbers")
    number = made["phoneNumberId"]
    tokens.known[number] = Credentials(
        number, tenant_id, made["accessToken"], 80, tenant_suspended=False, token_version=1
    )
    return Shop(tenant_id, number, sql, db, meta, tokens)
