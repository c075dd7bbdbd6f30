"""What runs, on disk: so that `ps` can tell, and so that the next start finds what a killed one left behind.

On Linux the kernel ends the children of a killed supervisor; elsewhere, and for a child caught between start and
that arrangement, these records do. A record names a process by id and time of birth, so a reused id is never ours.
"""

import json
import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Record:
    """One process as `ps` shows it."""

    name: str
    state: str
    pid: int
    born: float
    restarts: int
    ports: dict[str, int]


class Records:
    """A folder with one file per process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, name: str, *, state: str, pid: int, restarts: int, ports: dict[str, int]) -> None:
        try:
            born = psutil.Process(pid).create_time()
        except psutil.NoSuchProcess:
            born = 0.0
        record = Record(name, state, pid, born, restarts, ports)
        unfinished = self._folder / f".{name}"
        unfinished.write_text(json.dumps(asdict(record)), encoding="utf-8")
        unfinished.rename(self._path(name))

    def remove(self, name: str) -> None:
        self._path(name).unlink(missing_ok=True)

    def all(self) -> list[Record]:
        records = []
        for path in sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime):
            with suppress(FileNotFoundError):
                records.append(Record(**json.loads(path.read_text(encoding="utf-8"))))
        return records

    def end_leftovers(self) -> list[str]:
        """End recorded processes that still run, with all they started. The caller holds the folder's lock."""
        left = {record.name: process for record in self.all() if (process := _alive(record))}
        family = [member for process in left.values() for member in _with_children(process)]
        end_processes(family, signal.SIGTERM)
        for record in self.all():
            self.remove(record.name)
        return sorted(left)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"


def _alive(record: Record) -> psutil.Process | None:
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(record.pid)
        if record.pid != os.getpid() and abs(process.create_time() - record.born) < 1:
            return process
    return None


def _with_children(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return []


def end_processes(processes: Sequence[psutil.Process], first: signal.Signals) -> None:
    """Ask, wait up to five seconds, insist. They need not be children of ours."""
    for number in (first, signal.SIGKILL):
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        deadline = time.monotonic() + 5
        while any(runs(process) for process in processes):
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        else:
            return


def runs(process: psutil.Process) -> bool:
    """Whether it does anything yet."""
    # Where process 1 collects no dead, they stay in the table as zombies: ended all the same.
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
