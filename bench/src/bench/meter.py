"""What the product's processes take: CPU time and memory, by unit, the processes they started included."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from devstack.stack import Stack

META = "meta-emulator"
"""Stands for Meta, so it is no part of the product's cost."""


@dataclass(frozen=True, slots=True)
class Reading:
    """CPU seconds so far, by unit."""

    seconds: dict[str, float]

    def since(self, earlier: "Reading") -> dict[str, float]:
        return {name: used - earlier.seconds.get(name, 0.0) for name, used in self.seconds.items()}


def units(stack: Stack) -> list[str]:
    return [name for name in stack.services if name != META]


def cpu(stack: Stack) -> Reading:
    return Reading({name: cpu_seconds(stack.pid(name)) for name in units(stack)})


def cpu_seconds(pid: int) -> float:
    """Of one process and those it started."""
    return sum(map(_cpu_seconds, _family(pid)))


def cpu_of(pid: int) -> Reading:
    """Of one process that is no part of the product."""
    return Reading({"process": _cpu_seconds(psutil.Process(pid))})


def memory_mib(stack: Stack) -> dict[str, float]:
    """Proportional set size: pages that processes share, as PostgreSQL's do, count once."""
    return {name: sum(map(_pss_mib, _family(stack.pid(name)))) for name in units(stack)}


def own_memory_mib(stack: Stack) -> dict[str, float]:
    """Anonymous memory: what processes allocate. Code and libraries are left out, whose share of the proportional size
    changes whenever somebody else on the machine begins or ends to use the same files.
    """
    return {name: sum(map(_anonymous_mib, _family(stack.pid(name)))) for name in units(stack)}


def open_files(stack: Stack) -> dict[str, int]:
    """Descriptors: files, sockets, pipes."""
    return {name: sum(map(_open_files, _family(stack.pid(name)))) for name in units(stack)}


def _family(pid: int) -> Iterable[psutil.Process]:
    """None of a unit that is down."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        used = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    # Of children that have ended, too: PostgreSQL's come and go.
    return float(used.user + used.system + used.children_user + used.children_system)


def _pss_mib(process: psutil.Process) -> float:
    try:
        return float(process.memory_full_info().pss) / 2**20
    except psutil.NoSuchProcess:
        return 0.0


def _anonymous_mib(process: psutil.Process) -> float:
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return int(status.partition("RssAnon:")[2].split()[0]) / 1024


def _open_files(process: psutil.Process) -> int:
    try:
        return int(process.num_fds())
    except psutil.NoSuchProcess:
        return 0
