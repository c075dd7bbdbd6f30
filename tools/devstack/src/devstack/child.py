"""One child process: started through `launch`, watched, stopped, its output in a log file."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from devstack.accounts import Account

_LAUNCH = Path(__file__).with_name("launch.py")
_TAIL_BYTES = 16_384


@dataclass(frozen=True)
class Command:
    """How to run a program. Signals: `stop_signal` asks it to end well, `death_signal` ends it if we are killed."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path = Path("/")
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL
    account: Account | None = None


class Child:
    """A running program. Start it from a thread that lives as long as it should: the kernel ties the two."""

    def __init__(self, command: Command, log: Path) -> None:
        self.command = command
        self.log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *launched(self.command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.command.folder,
                env=dict(self.command.environment),
                # Its own session: Ctrl-C reaches us alone, and we stop the children in order.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def exit_code(self) -> int | None:
        return None if self._process is None else self._process.returncode

    async def wait(self) -> int:
        assert self._process is not None, "not started"
        return await self._process.wait()

    def send(self, number: signal.Signals) -> None:
        """Signal the program and all it started."""
        if self.running:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    async def stop(self, *, grace_seconds: float = 10) -> None:
        """Ask it to end; end it after the grace period."""
        if not self.running:
            return
        assert self._process is not None
        # To the program alone: it knows best how to end what it started.
        with suppress(ProcessLookupError):
            self._process.send_signal(self.command.stop_signal)
        try:
            await asyncio.wait_for(self._process.wait(), grace_seconds)
        except TimeoutError:
            self.send(signal.SIGKILL)
            await self._process.wait()

    async def kill(self) -> None:
        """End it the hard way, as a crash or a power cut would."""
        self.send(signal.SIGKILL)
        await self.wait()

    def last_lines(self, count: int = 15) -> list[str]:
        return last_lines(self.log, count)


def launched(command: Command) -> list[str]:
    """The command line that runs a program tied to this process."""
    options = ["--parent", str(os.getpid()), "--death-signal", str(int(command.death_signal))]
    if command.account is not None:
        options += ["--account", f"{command.account.uid}:{command.account.gid}"]
        if command.account.capability is not None:
            options += ["--capability", str(command.account.capability)]
    return [sys.executable, "-I", "-S", str(_LAUNCH), *options, "--", *command.argv]


def last_lines(log: Path, count: int) -> list[str]:
    """The end of a log file, for messages about a program that failed."""
    with suppress(FileNotFoundError), log.open("rb") as content:
        content.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        return content.read().decode("utf-8", "replace").splitlines()[-count:]
    return []
