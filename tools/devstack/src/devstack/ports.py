"""Loopback ports: free ones for stacks side by side, and who holds a taken one."""

import asyncio
import fcntl
import os
import random
import socket
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

LOOPBACK = "127.0.0.1"
# Below the range from which the kernel takes ports for outgoing connections, so that none of those gets in our way.
_FREE_RANGE = range(20000, 32000)
_PATIENCE_SECONDS = 3.0


class PortClaims:
    """Ports reserved for this process against every other stack on the machine, until it ends or releases them."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.gettempdir()) / f"aerostic-ports-{os.getuid()}"
        self._held: list[int] = []

    def claim(self) -> int:
        """A port that nobody listens on and no other stack has claimed."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for port in random.sample(_FREE_RANGE, len(_FREE_RANGE)):
            lock = os.open(self._folder / str(port), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            if is_free(port):
                self._held.append(lock)
                return port
            os.close(lock)
        raise RuntimeError(f"No free port on {LOOPBACK} between {_FREE_RANGE[0]} and {_FREE_RANGE[-1]}.")

    def release(self) -> None:
        while self._held:
            os.close(self._held.pop())


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


async def gets_free(port: int) -> bool:
    """Whether a port is free now or in a moment: a socket of an earlier run may still be going."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not is_free(port):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True


def accepts(port: int, host: str = LOOPBACK) -> bool:
    """Whether something listens there."""
    with suppress(OSError), socket.create_connection((host, port), timeout=1):
        return True
    return False


def holder(port: int) -> str | None:
    """Who holds a port, as `python (process 123)`; None where the system does not tell us."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.Error:
        return None
    for connection in connections:
        if connection.laddr and connection.laddr.port == port and connection.pid:
            with suppress(psutil.Error):
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
    return None
