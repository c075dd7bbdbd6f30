"""PostgreSQL and NATS run from their wheels wherever the clone lies and whoever starts them."""

import asyncio
import os
import shutil
import signal
import stat
import tempfile
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncpg
import psutil
import pytest
from nats.aio.client import Client

from devstack import accounts
from devstack.child import Child
from devstack.engines import postgres as postgres_engine
from devstack.engines.nats import Nats
from devstack.engines.postgres import Postgres, PostgresFailed
from devstack.locks import FolderInUse, FolderLock, locked_by
from devstack.ports import PortClaims
from devstack.records import runs

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL under another account")


@pytest.fixture
def claims():
    held = PortClaims()
    yield held
    held.release()


@pytest.fixture
def closed_folder():
    """A folder that nobody but us may enter, as below /root or from mktemp -d."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        yield folder
        postgres_engine.remove(folder / "postgres")


@asynccontextmanager
async def running(engine, log):
    await asyncio.to_thread(engine.prepare)
    child = Child(engine.command(), log)
    await child.start()
    try:
        async with asyncio.timeout(60):
            while not await asyncio.to_thread(engine.answers):
                assert child.running, child.last_lines()
                await asyncio.sleep(0.02)
        yield child
    finally:
        await child.stop()


def list_folder(name):
    return list(Path(name).iterdir())


def real_uids(process):
    found = {process.uids().real}
    for child in process.children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # such as the backend of whoever asked just before
            found.add(child.uids().real)
    return found


@pytest.fixture
def closed_package(closed_folder, monkeypatch):
    """The wheel's programs below the closed folder too, as in a clone there."""
    package = postgres_engine._package_binaries().parents[1]
    for name in (package.name, f"{package.name}.libs"):
        shutil.copytree(package.with_name(name), closed_folder / name, symlinks=True)
    binaries = closed_folder / postgres_engine._package_binaries().relative_to(package.parent)
    monkeypatch.setattr(postgres_engine, "_package_binaries", lambda: binaries)


@as_root
@pytest.mark.usefixtures("closed_package")
async def test_postgres_runs_unprivileged_below_a_closed_folder(closed_folder, claims):
    server = Postgres(closed_folder / "postgres", claims.claim(), "secret", throwaway=True)
    async with running(server, closed_folder / "log") as child:
        assert server.run("SELECT 1") == "1"
        assert 0 not in real_uids(psutil.Process(child.pid))
        assert (closed_folder / "postgres" / "data" / "PG_VERSION").exists()


@as_root
@pytest.mark.usefixtures("closed_package")
async def test_postgres_runs_elsewhere_when_no_capability_can_be_handed_down(closed_folder, claims, monkeypatch):
    monkeypatch.setattr(accounts, "passing_capability", lambda: None)
    server = Postgres(closed_folder / "postgres", claims.claim(), "secret", throwaway=True)
    async with running(server, closed_folder / "log") as child:
        assert server.run("SELECT 1") == "1"
        assert 0 not in real_uids(psutil.Process(child.pid))
        place = Path(psutil.Process(child.pid).cwd()).parents[1]
        assert place in list_folder("/var/tmp")
    assert not place.is_relative_to(closed_folder)
    postgres_engine.remove(closed_folder / "postgres")
    assert place not in list_folder("/var/tmp")


@as_root
async def test_the_owner_of_existing_data_keeps_it(closed_folder, claims):
    closed_folder.chmod(0o711)
    server = Postgres(closed_folder / "postgres", claims.claim(), "secret", throwaway=True)
    await asyncio.to_thread(server.prepare)
    owner = (closed_folder / "postgres" / "data").stat().st_uid + 1
    for path in (closed_folder / "postgres", *(closed_folder / "postgres").rglob("*")):
        os.chown(path, owner, owner)
    async with running(server, closed_folder / "log") as child:
        assert real_uids(psutil.Process(child.pid)) == {owner}


async def test_postgres_asks_everyone_for_the_password(closed_folder, claims):
    server = Postgres(closed_folder / "postgres", claims.claim(), 'it\'s "$ecret" / 100 %', throwaway=True)
    async with running(server, closed_folder / "log"):
        connection = await asyncpg.connect(server.url("postgres"))
        assert await connection.fetchval("SHOW password_encryption") == "scram-sha-256"
        await connection.close()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(server.url("postgres", password="guess"))


async def test_postgres_recovers_committed_rows_after_sigkill(closed_folder, claims):
    server = Postgres(closed_folder / "postgres", claims.claim(), "secret")
    async with running(server, closed_folder / "log") as child:
        server.run("CREATE TABLE kept (id int); INSERT INTO kept VALUES (1)")
        family = psutil.Process(child.pid).children(recursive=True)
        # The server alone, as the kernel's out-of-memory killer would: its pid file and children stay behind.
        os.kill(child.pid, signal.SIGKILL)
        await child.wait()
    assert (closed_folder / "postgres" / "data" / "postmaster.pid").exists()
    async with running(server, closed_folder / "log"):
        assert server.run("SELECT id FROM kept") == "1"
    assert not [process for process in family if runs(process)]


async def test_postgres_refuses_data_of_another_major_version(closed_folder, claims):
    server = Postgres(closed_folder / "postgres", claims.claim(), "secret", throwaway=True)
    server.prepare()
    (closed_folder / "postgres" / "data" / "PG_VERSION").write_text("12\n")
    with pytest.raises(PostgresFailed, match="written by PostgreSQL 12"):
        server.prepare()


async def test_an_interrupted_first_start_begins_again(closed_folder, claims):
    server = Postgres(closed_folder / "postgres", claims.claim(), "secret", throwaway=True)
    half = closed_folder / "postgres" / "data.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    async with running(server, closed_folder / "log"):
        assert server.run("SELECT 1") == "1"


async def test_nats_keeps_acknowledged_messages_through_sigkill(closed_folder, claims):
    server = Nats(closed_folder / "nats", claims.claim(), {"aerostic": "secret"})
    async with running(server, closed_folder / "log") as child:
        client = Client()
        await client.connect(server.url("aerostic"), allow_reconnect=False)
        await client.jetstream().add_stream(name="KEPT", subjects=["kept.>"])
        for number in range(20):
            await client.jetstream().publish(f"kept.{number}", b"x")
        await client.close()
        await child.kill()
    async with running(server, closed_folder / "log"):
        client = Client()
        await client.connect(server.url("aerostic"), allow_reconnect=False)
        assert (await client.jsm().stream_info("KEPT")).state.messages == 20
        await client.close()


async def test_nats_asks_for_the_password_and_keeps_accounts_apart(closed_folder, claims):
    server = Nats(closed_folder / "nats", claims.claim(), {"one": "first", "two": "second"})
    async with running(server, closed_folder / "log"):
        one, two = Client(), Client()
        await one.connect(server.url("one"), allow_reconnect=False)
        await two.connect(server.url("two"), allow_reconnect=False)
        await one.jetstream().add_stream(name="MINE", subjects=["mine.>"])
        assert await two.jsm().streams_info() == []
        await one.close()
        await two.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b'CONNECT {"user": "one", "pass": "guess", "verbose": false}\r\nPING\r\n')
        assert b"-ERR 'Authorization Violation'" in await reader.read()
        writer.close()
        await writer.wait_closed()
    assert stat.S_IMODE((closed_folder / "nats" / "nats.conf").stat().st_mode) == 0o600


def test_a_second_start_on_the_same_folder_says_so(tmp_path):
    lock = FolderLock(tmp_path)
    with pytest.raises(FolderInUse, match=rf"{tmp_path} is in use by another start \(process {os.getpid()}\)"):
        FolderLock(tmp_path)
    assert locked_by(tmp_path) == os.getpid()
    lock.release()
    assert locked_by(tmp_path) is None
    FolderLock(tmp_path).release()


def test_claimed_ports_are_never_given_twice():
    one, two = PortClaims(), PortClaims()
    ports = [claims.claim() for _ in range(20) for claims in (one, two)]
    assert len(set(ports)) == len(ports)
    one.release()
    two.release()
