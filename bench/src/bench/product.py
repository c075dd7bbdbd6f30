"""The product under measurement: a stack of its own in a temporary folder, and a workspace with a number in it."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from devstack.stack import Stack
from devstack.workspace import Json, Workspace

# One line for each refused item or request would measure the log.
_QUIET = {"AEROSTIC_LOG_LEVEL": "warning", "AEROSTIC_LOG_FORMAT": "json"}
# Each commit's time, as PostgreSQL itself notes it: there is no other exact way to know it.
_NOTING_COMMITS = {"track_commit_timestamp": "on"}
_SHOPS_AT_ONCE = 4


@asynccontextmanager
async def started(*, services: str = "core", overrides: Mapping[str, str] | None = None) -> AsyncIterator[Stack]:
    """As `make up` starts it, durability included, on free ports; gone with all its data after the block."""
    folder = Path(tempfile.mkdtemp(prefix="aerostic-bench-"))
    try:
        settings = {**_QUIET, **(overrides or {})}
        async with Stack(
            folder, services=services, overrides=settings, free_ports=True, postgres=_NOTING_COMMITS
        ) as stack:
            yield stack
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


@asynccontextmanager
async def shop(stack: Stack, *, throughput: int = 1000) -> AsyncIterator[Workspace]:
    """A workspace with a number that Meta lets send so many messages a second."""
    async with Workspace.create(stack.url("gateway"), stack.url("meta-emulator"), throughput=throughput) as workspace:
        yield workspace


async def shops(stack: Stack, count: int) -> list[Workspace]:
    """So many workspaces with a number each, to be looked at: their connections are closed already."""
    turns = asyncio.Semaphore(_SHOPS_AT_ONCE)

    async def one() -> Workspace:
        async with turns, shop(stack) as workspace:
            return workspace

    async with asyncio.TaskGroup() as tasks:
        made = [tasks.create_task(one()) for _ in range(count)]
    return [task.result() for task in made]


_NOBODYS = ("100000000000077", "200000000000077")


def webhooks(
    stack: Stack, places: Sequence[tuple[str, str]] = (_NOBODYS,), *, through: str = "webhooks-ingest"
) -> Json:
    """What bench.loads.webhooks needs to know: where they go, how they are signed, and for which numbers (with their
    WABAs); without any, for one that nobody has connected.
    """
    secret = stack.settings["AEROSTIC_META_APP_SECRET"]
    return {"port": port(stack, through), "secret": secret, "places": list(places)}


def place_of(workspace: Workspace) -> tuple[str, str]:
    return workspace.phone_number_id, str(workspace.number["wabaId"])


def port(stack: Stack, name: str) -> int:
    return int(stack.address(name).rpartition(":")[2])


@asynccontextmanager
async def database(stack: Stack, name: str = "messaging") -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection that sees everything, for preparing data and for counting what was stored."""
    connection = await asyncpg.connect(stack.postgres.url(name))
    try:
        yield connection
    finally:
        await connection.close()
