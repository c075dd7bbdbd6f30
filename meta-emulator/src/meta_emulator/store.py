"""The state file: one JSON document, replaced atomically, so that numbers and undelivered webhooks survive."""

import asyncio
import logging
import os
import time
from pathlib import Path

import msgspec
from msgspec import Struct, field

from meta_emulator.emulator import Emulator
from meta_emulator.model import Due, RetryDue, Update, World

log = logging.getLogger(__name__)

_FORMAT = 1
_SHARE_OF_TIME = 20  # a large state is written less often: at most one twentieth of the time goes into it


class Snapshot(Struct):
    format: int = _FORMAT
    world: World = field(default_factory=World)
    updates: list[Update] = field(default_factory=list)
    schedule: list[tuple[float, Due]] = field(default_factory=list)


class StateUnreadable(Exception):
    """The state file is not ours or damaged; it is left as it is."""


def load(path: Path) -> Snapshot:
    try:
        snapshot = msgspec.json.decode(path.read_bytes(), type=Snapshot)
    except FileNotFoundError:
        return Snapshot()
    except (msgspec.DecodeError, OSError) as wrong:
        raise StateUnreadable(f"the state file {path} cannot be read ({wrong}); move it away to start anew") from wrong
    if snapshot.format != _FORMAT:
        raise StateUnreadable(f"the state file {path} has format {snapshot.format}, this version reads {_FORMAT}")
    return snapshot


def encode(em: Emulator) -> bytes:
    # Put-off deliveries are in the world already; after a restart they are tried at once.
    schedule: list[tuple[float, Due]] = [
        (when, due) for when, due in em.schedule.pending() if not isinstance(due, RetryDue)
    ]
    return msgspec.json.encode(Snapshot(world=em.world, updates=list(em.queue.updates), schedule=schedule))


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    # Access tokens are inside.
    partial.chmod(0o600)
    partial.replace(path)


async def keep_saved(em: Emulator, path: Path) -> None:
    """Write the state a moment after each change, until cancelled."""
    while True:
        await asyncio.sleep(em.settings.state_save_seconds)
        if em.is_dirty:
            em.is_dirty = False
            started = time.monotonic()
            content = encode(em)
            await asyncio.to_thread(write, path, content)
            await asyncio.sleep((time.monotonic() - started) * _SHARE_OF_TIME)
