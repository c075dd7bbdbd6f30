"""The engines of one test run: PostgreSQL and NATS, shared by its workers, gone when the run ends in any way.

`python -m devstack.engine_host OWNER FOLDER ACCOUNT…` starts both, writes FOLDER/ready.json, and waits for SIGTERM or
the end of process OWNER. It is a process of its own because any worker may be the first to need the engines, and
none of them may take the engines with it when it ends.
"""

import asyncio
import json
import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from devstack.child import Child
from devstack.databases import SERVICES, WITH_WORKER
from devstack.engines.nats import Nats
from devstack.engines.postgres import Postgres, remove
from devstack.locks import FolderLock
from devstack.ports import PortClaims

READY = "ready.json"
_START_SECONDS = 60


async def main(owner: int, folder: Path, accounts: Sequence[str]) -> None:
    lock = FolderLock(folder)
    claims = PortClaims()
    postgres = Postgres(folder / "postgres", claims.claim(), _secret(), max_connections=300, throwaway=True)
    nats = Nats(folder / "nats", claims.claim(), {name: _secret() for name in accounts})
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, stop.set)
    await asyncio.to_thread(postgres.prepare)
    nats.prepare()
    children = [Child(postgres.command(), folder / "postgres.log"), Child(nats.command(), folder / "nats.log")]
    try:
        for child in children:
            await child.start()
        await _until_answering(children, [postgres, nats])
        _announce(folder, postgres, nats)
        await _until_stopped(owner, stop, children)
    finally:
        await asyncio.gather(*(child.stop() for child in children))
    remove(postgres.folder)
    lock.release()
    # The run cleans up behind itself; a killed one cannot.
    shutil.rmtree(folder if psutil.pid_exists(owner) else folder.parent)


async def _until_answering(children: Sequence[Child], engines: Sequence[Postgres | Nats]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    for child, engine in zip(children, engines, strict=True):
        while not await asyncio.to_thread(engine.answers):
            if not child.running or time.monotonic() > deadline:
                sys.exit("\n".join([f"{child.log.stem} does not start:", *child.last_lines()]))
            await asyncio.sleep(0.02)


def _announce(folder: Path, postgres: Postgres, nats: Nats) -> None:
    ready = {
        "pid": os.getpid(),
        "postgres": {"folder": str(postgres.folder), "port": postgres.port, "password": postgres.password},
        "roles": {name: {"owner": _secret(), "app": _secret(), "worker": _worker_secret(name)} for name in SERVICES},
        "nats": {"folder": str(nats.folder), "port": nats.port, "accounts": dict(nats.accounts)},
    }
    unfinished = folder / "ready.new"
    with os.fdopen(os.open(unfinished, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
        json.dump(ready, file)
    unfinished.rename(folder / READY)


async def _until_stopped(owner: int, stop: asyncio.Event, children: Sequence[Child]) -> None:
    while not stop.is_set() and psutil.pid_exists(owner) and all(child.running for child in children):
        try:
            await asyncio.wait_for(stop.wait(), 0.5)
        except TimeoutError:
            continue


def _secret() -> str:
    return secrets.token_urlsafe(18)


def _worker_secret(service: str) -> str:
    return _secret() if service in WITH_WORKER else ""


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))
