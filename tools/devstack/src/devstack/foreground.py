"""The stack in the foreground: started, seeded, explained, and stopped by Ctrl-C, SIGTERM or the terminal's end."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from devstack.databases import ROOT
from devstack.locks import FolderInUse
from devstack.seed import NEEDS, guide, seed
from devstack.settings import PREFIX, SettingsRefused, read_env_file
from devstack.stack import Stack
from devstack.units import StartFailed


def run(folder: Path, *, services: str) -> int:
    """The exit code. What goes wrong is told in plain words."""
    try:
        overrides = read_env_file(ROOT / ".env")
        overrides |= {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
        return asyncio.run(_run(folder, services, overrides))
    except FolderInUse as error:
        print(f"Already running (process {error.pid}): make ps shows it, make down stops it.", file=sys.stderr)
    except (StartFailed, SettingsRefused) as error:
        print(error, file=sys.stderr)
    return 1


async def _run(folder: Path, services: str, overrides: Mapping[str, str]) -> int:
    stack = Stack(folder, services=services, overrides=overrides, say=_say)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stopping.is_set():
            stack.kill_all()
        else:
            stopping.set()
            _say("Stopping… (again: at once)")

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)
    began = time.monotonic()
    starting = asyncio.create_task(_start(stack))
    stop_wanted = asyncio.create_task(stopping.wait())
    await asyncio.wait({starting, stop_wanted}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        with suppress(asyncio.CancelledError):
            await starting
    else:
        _say(await starting)
        _say(f"Up after {time.monotonic() - began:.0f} s. Ctrl-C stops everything; the data stays.")
        await stop_wanted
        await stack.stop()
    _say("Stopped.")
    return 0


async def _start(stack: Stack) -> str:
    """Bring everything up, seed it, and tell what to try."""
    await stack.start()
    if not set(stack.services) >= NEEDS:
        return f"Running: {', '.join(stack.services)}. The demo workspace needs all of core."
    try:
        return guide(stack, await seed(stack))
    except BaseException:
        await stack.stop()
        raise


def _say(line: str) -> None:
    print(line, flush=True)
