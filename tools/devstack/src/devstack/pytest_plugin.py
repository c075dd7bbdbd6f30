"""Fixtures with the real engines: one PostgreSQL and one NATS server for a whole test run.

`postgres`      session; `postgres.database("messaging")` is this worker's migrated database of a service,
                `postgres.fresh_database(…)` one for a single test, `postgres.empty_database("kit")` one without tables
`nats`          the URL of a NATS account that belongs to this worker; without streams when the test starts
`nats_server`   the same account for fixtures that live longer than a test: `.url`, `await .clear()`

The engines start when the first test asks for them and end with the run, killed or not (`devstack.engine_host`).
"""

import asyncio
import fcntl
import itertools
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from nats.aio.client import Client

from devstack.databases import Passwords, ServiceDatabase
from devstack.engine_host import READY
from devstack.engines.nats import Nats
from devstack.engines.postgres import Postgres

_RUN_FOLDER = "AEROSTIC_TEST_RUN_FOLDER"
_RUN_OWNER = "AEROSTIC_TEST_RUN_OWNER"
_START_SECONDS = 90
_STOP_SECONDS = 30


class EnginesFailed(RuntimeError):
    """The engines of the test run did not start, or a service's migrations failed."""


@dataclass(frozen=True)
class NatsAccount:
    """The worker's own account on the run's NATS server: its streams are nobody else's."""

    url: str
    folder: Path
    """Where the server keeps the account's streams, a folder each."""

    async def clear(self) -> None:
        """Remove every stream and, with them, their consumers."""
        client = Client()
        await client.connect(self.url, allow_reconnect=False)
        try:
            manager = client.jsm()
            for stream in await manager.streams_info():
                assert stream.config.name is not None
                await manager.delete_stream(stream.config.name)
        finally:
            await client.close()
        # The server deletes files after it has answered, and cannot make a stream of the same name meanwhile.
        async with asyncio.timeout(_STOP_SECONDS):
            while self.folder.exists() and any(self.folder.iterdir()):  # noqa: ASYNC110 (files tell nobody)
                await asyncio.sleep(0.01)


class TestRunPostgres:
    """The run's PostgreSQL server, handing out databases."""

    __test__ = False  # not a test class

    def __init__(self, server: Postgres, folder: Path, roles: dict[str, Passwords], worker: str) -> None:
        self.server = server
        self._folder = folder
        self._roles = roles
        self._worker = worker
        self._numbers = itertools.count(1)
        self._databases: dict[str, ServiceDatabase] = {}

    def database(self, service: str) -> ServiceDatabase:
        """The worker's database of a service, migrated; the same one at each call."""
        if service not in self._databases:
            self._databases[service] = self.fresh_database(service)
        return self._databases[service]

    def fresh_database(self, service: str) -> ServiceDatabase:
        """A migrated database that nobody else uses; `drop()` it when it is large."""
        return self._template(service).copy_to(self._next_name(service))

    def empty_database(self, service: str) -> ServiceDatabase:
        """A database without tables, with the roles <service>_owner, _app and _worker; any name is a service here."""
        passwords = self._roles.setdefault(service, Passwords("owner", "app", "worker"))
        database = ServiceDatabase(self.server, service, self._next_name(service), passwords)
        database.create()
        return database

    def _next_name(self, service: str) -> str:
        return f"{service}_{self._worker}_{next(self._numbers)}"

    def _template(self, service: str) -> ServiceDatabase:
        """Built once per run, by the service's own migrations."""
        template = ServiceDatabase(self.server, service, f"{service}_template", self._roles[service])
        with _lock(self._folder / f"{service}.lock") as done:
            if not done.read():
                template.create()
                _migrate(template)
                done.write("migrated\n")
        return template


def pytest_configure(config: pytest.Config) -> None:
    if not _is_worker(config):
        # Workers inherit these; the folder is made by whoever needs it first.
        name = f"aerostic-tests-{os.getpid()}-{secrets.token_hex(4)}"
        os.environ[_RUN_FOLDER] = str(Path(tempfile.gettempdir()) / name)
        os.environ[_RUN_OWNER] = str(os.getpid())


def pytest_unconfigure(config: pytest.Config) -> None:
    if not _is_worker(config) and _RUN_FOLDER in os.environ:
        folder = Path(os.environ.pop(_RUN_FOLDER))
        _stop_hosts(folder)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> TestRunPostgres:
    folder = Path(os.environ[_RUN_FOLDER])
    engines = _engines(folder)
    known = engines["postgres"]
    server = Postgres(Path(known["folder"]), known["port"], known["password"], throwaway=True)
    roles = {name: Passwords(**passwords) for name, passwords in engines["roles"].items()}
    return TestRunPostgres(server, folder, roles, _worker_name())


@pytest.fixture(scope="session")
def nats_server() -> NatsAccount:
    known = _engines(Path(os.environ[_RUN_FOLDER]))["nats"]
    server = Nats(Path(known["folder"]), known["port"], known["accounts"])
    return NatsAccount(server.url(_worker_name()), server.streams_folder(_worker_name()))


@pytest_asyncio.fixture(loop_scope="session")
async def nats(nats_server: NatsAccount) -> AsyncIterator[str]:
    await nats_server.clear()
    yield nats_server.url


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _worker_name() -> str:
    return os.environ.get("PYTEST_XDIST_WORKER", "main")


def _engines(folder: Path) -> dict[str, Any]:
    """How to reach the run's engines; the first to ask starts them."""
    folder.mkdir(mode=0o700, exist_ok=True)
    with _lock(folder / "engines.lock") as place:
        known = place.read()
        if not known:
            place.write(str(_start_host(folder)))
            place.flush()
            place.seek(0)
            known = place.read()
    found: dict[str, Any] = json.loads((Path(known) / READY).read_text(encoding="utf-8"))
    return found


def _start_host(folder: Path) -> Path:
    home = folder / f"engines-{_worker_name()}"
    home.mkdir(mode=0o700)
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0"))
    accounts = ["main", *(f"gw{number}" for number in range(count))]
    log = folder / "engines.log"
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "devstack.engine_host", os.environ[_RUN_OWNER], str(home), *accounts],
        os.environ,
        setsid=True,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
    )
    deadline = time.monotonic() + _START_SECONDS
    while not (home / READY).exists():
        ended, _ = os.waitpid(pid, os.WNOHANG)
        if ended or time.monotonic() > deadline:
            raise EnginesFailed(f"The engines do not start:\n{log.read_text(encoding='utf-8')}")
        time.sleep(0.02)
    return home


def _stop_hosts(folder: Path) -> None:
    """End the engines and wait until they are gone, so that a run leaves nothing behind."""
    for ready in folder.glob(f"engines-*/{READY}"):
        with suppress(FileNotFoundError, ProcessLookupError):
            pid = int(json.loads(ready.read_text(encoding="utf-8"))["pid"])
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + _STOP_SECONDS
            while ready.exists() and time.monotonic() < deadline:
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
                time.sleep(0.02)


def _migrate(database: ServiceDatabase) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AEROSTIC_")}
    done = subprocess.run(
        [sys.executable, "-m", f"svc_{database.service}", "migrate"],
        env={**clean, f"AEROSTIC_{database.service.upper()}_OWNER_DATABASE_URL": database.owner_url},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    if done.returncode != 0:
        raise EnginesFailed(f"svc_{database.service} migrate failed:\n{done.stdout}{done.stderr}")


@contextmanager
def _lock(path: Path) -> Iterator[Any]:
    """A file that one worker at a time may read and extend."""
    with path.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        yield file
