"""The engines of a test run: shared by its workers, and gone with it however it ends."""

import os
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import psutil
import pytest
from nats.aio.client import Client


async def test_empty_database_lets_the_owner_create_and_the_app_only_look(postgres):
    database = postgres.empty_database("kit")
    owner = await asyncpg.connect(database.owner_url)
    await owner.execute("CREATE TABLE thing (id int)")
    await owner.execute("GRANT SELECT ON thing TO kit_app")
    await owner.close()
    app = await asyncpg.connect(database.app_url)
    assert await app.fetch("SELECT * FROM thing") == []
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await app.execute("CREATE TABLE other (id int)")
    await app.close()
    database.drop()


async def test_a_role_cannot_enter_another_services_database(postgres):
    mine, other = postgres.empty_database("kit"), postgres.empty_database("elsewhere")
    intruder = postgres.server.url(other.name, role="kit_app", password=mine.passwords.app)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(intruder)


@pytest.mark.parametrize("attempt", [1, 2])
async def test_each_test_starts_without_streams(nats, attempt):
    client = Client()
    await client.connect(nats)
    assert await client.jsm().streams_info() == []
    await client.jetstream().add_stream(name="LEFT", subjects=["left.>"])
    await client.jetstream().publish("left.over", b"x")
    await client.close()


INNER = """
import os, time
from pathlib import Path

def test_uses_the_engines(postgres, nats_server):
    postgres.empty_database("kit")
    Path(os.environ["NOTE"]).write_text(f"{postgres.server.port} {postgres.server.folder}")
    time.sleep(float(os.environ["NAP"]))
"""


def start_inner_run(tmp_path, *options, nap=0.0):
    (tmp_path / "test_inner.py").write_text(INNER)
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "-p", "devstack.pytest_plugin", *options, str(tmp_path)],
        env={**os.environ, "NOTE": str(tmp_path / "note"), "NAP": str(nap)},
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
    )


def engines_of(note):
    """The processes that work below the folder of an inner run's engines."""
    folder = Path(note.read_text().split()[1]).parent
    return folder, [p for p in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(p.info["cmdline"] or [])]


def test_a_finished_run_leaves_nothing(tmp_path):
    run = start_inner_run(tmp_path, "-n", "2")
    assert run.wait(timeout=100) == 0
    folder, processes = engines_of(tmp_path / "note")
    assert not [process for process in processes if "devstack.engine_host" not in process.info["cmdline"]]
    assert not folder.parent.exists()
    # Their host, which has ended them, may be ending itself.
    assert not psutil.wait_procs(processes, timeout=30)[1]


def test_a_killed_run_leaves_nothing(tmp_path):
    run = start_inner_run(tmp_path, nap=600)
    note = tmp_path / "note"
    deadline = time.monotonic() + 100
    while not (note.exists() and note.read_text()):
        assert run.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    folder, processes = engines_of(note)
    assert len(processes) >= 3
    run.kill()
    run.wait()
    while folder.parent.exists() or engines_of(note)[1]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
