"""`python -m svc_messaging streams save | restore | rewind`: backups of the streams, and streams that agree with
restored databases (docs/guides/backup-and-restore.md).

A backup is a folder <UTC time> with a folder for each stream. It appears under its name when it is whole. A later one
holds all that an earlier one does, as far as the streams still keep it, so the newest two stay.
"""

import argparse
import asyncio
import hashlib
import json
import os
import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import structlog
from nats.js.errors import NotFoundError

from kit import logging
from kit.bus import Bus
from kit.settings import StreamSettings
from kit.stream_snapshots import SnapshotFailed, restore, rewind, save
from kit.streams import DEAD, EVENTS, META, SEND
from kit.tail import OUTAGES

log = structlog.get_logger()

_NAME = "messaging-streams"
# Not EVENTS: what they tell is in the databases, and after a restore they would tell of what is no more.
_KEPT = (META, SEND, DEAD)
_BACKUPS_KEPT = 2
_AGAIN_SECONDS = 600
_SUMS = "SUMS.json"
_UNFINISHED = ".unfinished-"


class BackupDamaged(Exception):
    """Files of a backup are not what they were, or are missing."""


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m svc_messaging streams")
    commands = parser.add_subparsers(dest="command", required=True)
    saving = commands.add_parser("save", help="back the streams up into a folder of backups")
    saving.add_argument("backups", type=Path)
    saving.add_argument("--every", type=float, metavar="HOURS", help="one after the other, for ever")
    restoring = commands.add_parser("restore", help="make the streams of a backup anew; no service may run")
    restoring.add_argument("backup", type=Path, help="one backup, or the folder of backups for the newest")
    rewinding = commands.add_parser("rewind", help="take in again what came since a time, and forget events")
    rewinding.add_argument("--since", type=_moment, required=True, help="such as 2026-11-24T03:00:00Z")
    given = parser.parse_args(arguments)
    settings = StreamSettings.load()
    logging.configure(level=settings.log_level, log_format=settings.log_format, service=_NAME)
    url = settings.nats_url.get_secret_value()
    try:
        if given.command == "save" and given.every:
            _save_for_ever(url, given.backups, given.every)
        elif given.command == "save":
            asyncio.run(save_all(url, given.backups))
        elif given.command == "restore":
            print(asyncio.run(restore_all(url, given.backup)))
        else:
            print(asyncio.run(rewind_to(url, given.since)))
    except (SnapshotFailed, BackupDamaged, *OUTAGES) as error:
        sys.exit(f"streams: {str(error) or type(error).__name__}")


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise argparse.ArgumentTypeError("say the time zone, such as Z")
    return moment


def _save_for_ever(url: str, backups: Path, hours: float) -> None:
    while True:
        try:
            asyncio.run(save_all(url, backups))
        except (SnapshotFailed, *OUTAGES) as error:
            log.error("streams_not_saved", error=repr(error), again_in_seconds=_AGAIN_SECONDS)
            time.sleep(_AGAIN_SECONDS)
        else:
            time.sleep(hours * 3600)


async def save_all(url: str, backups: Path) -> Path:
    """Make one backup and forget old ones. Raises SnapshotFailed and what `kit.tail.OUTAGES` names."""
    name = datetime.now(UTC).strftime("%Y-%m-%dT%H%M%SZ")
    unfinished, finished = backups / f"{_UNFINISHED}{name}", backups / name
    _forget(backups, keep=_BACKUPS_KEPT)
    unfinished.mkdir(parents=True)
    bus = await Bus.connect(url, name=_NAME)
    try:
        saved = {}
        for stream in await _present(bus):
            saved[stream] = await save(bus, stream, unfinished / stream)
    finally:
        await bus.close()
    (unfinished / _SUMS).write_text(json.dumps(_sums(unfinished), indent=1), encoding="utf-8")
    os.sync()
    unfinished.rename(finished)
    (backups / ".last-success").touch()
    _forget(backups, keep=_BACKUPS_KEPT)
    log.info("streams_saved", backup=name, messages=saved)
    return finished


async def _present(bus: Bus) -> list[str]:
    found = {info.config.name for info in await bus.js.streams_info()}
    return [stream for stream in _KEPT if stream in found]


def _forget(backups: Path, *, keep: int) -> None:
    """Older backups, and what a backup that was broken off has left."""
    if not backups.is_dir():
        return
    for broken_off in backups.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(broken_off)
    for old in _all(backups)[:-keep]:
        shutil.rmtree(old)


def _all(backups: Path) -> list[Path]:
    return sorted(backups.glob("20*Z"))


def _sums(backup: Path) -> dict[str, str]:
    found = {}
    for path in sorted(backup.glob("*/*")):
        with path.open("rb") as file:
            found[str(path.relative_to(backup))] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


async def restore_all(url: str, backup: Path) -> str:
    """Says what was restored. Raises BackupDamaged before anything is changed, SnapshotFailed and what
    `kit.tail.OUTAGES` names.
    """
    if not (backup / _SUMS).is_file():
        backup = next(iter(_all(backup)[-1:]), backup)
    if not (backup / _SUMS).is_file():
        raise BackupDamaged(f"{backup} holds no backup of streams.")
    if _sums(backup) != json.loads((backup / _SUMS).read_text(encoding="utf-8")):
        raise BackupDamaged(f"Files of {backup} are not what was written.")
    bus = await Bus.connect(url, name=_NAME)
    try:
        restored = [await restore(bus, folder) for folder in sorted(backup.iterdir()) if folder.is_dir()]
    finally:
        await bus.close()
    return f"restored of {backup.name}: " + ", ".join(f"{stream} ({count} messages)" for stream, count in restored)


async def rewind_to(url: str, since: datetime) -> str:
    """Says what was done. Raises SnapshotFailed and what `kit.tail.OUTAGES` names."""
    bus = await Bus.connect(url, name=_NAME)
    try:
        moved = await rewind(bus, META, since)
        try:
            # Made anew by the services. Who followed it sees that and begins anew.
            await bus.js.delete_stream(EVENTS)
        except NotFoundError:
            log.info("no_events_to_forget")
    finally:
        await bus.close()
    told = ", ".join(f"{consumer} from {sequence}" for consumer, sequence in sorted(moved.items()))
    return f"taken in again: {told or 'nothing, no consumer was further'}; events are forgotten"
