"""The life of a process: set up, run until a signal, stop in order, and end loudly when a task fails."""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping

import structlog
import uvloop

from kit import collector, logging, metrics, telemetry
from kit.settings import Settings

log = structlog.get_logger()

VERSION = "0.1.0"

Main = Callable[[asyncio.Event], Awaitable[None]]
"""A process's work: runs until the event is set, then finishes what it has begun and returns."""


def run(main: Main, *, name: str, settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; a second signal ends at once. An exception ends the process with status 1, so that
    its supervisor starts it afresh instead of leaving a half of it running.
    """
    logging.configure(level=settings.log_level, log_format=settings.log_format, service=name)
    telemetry.configure(service=name, endpoint=settings.otlp_endpoint, sample_ratio=settings.trace_sample_ratio)
    metrics.name_build(name, VERSION)
    settings.log_effective()
    collector.settle()
    try:
        uvloop.run(_until_signal(main))
    except BaseExceptionGroup as group:
        for error in _leaves(group):
            log.error("process_failed", error=repr(error), exc_info=error)
        sys.exit(1)
    except Exception as error:
        # Nothing is swallowed: the log gets it in its own form, and the supervisor the status.
        log.error("process_failed", error=repr(error), exc_info=error)
        sys.exit(1)
    log.info("process_stopped")


def dispatch(commands: Mapping[str, Callable[[list[str]], None]], *, program: str) -> None:
    """`python -m svc_x <command> …`: run the command named first with the arguments after it."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}")
    parser.add_argument("command", choices=sorted(commands))
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    chosen = parser.parse_args()
    commands[chosen.command](chosen.arguments)


async def _until_signal(main: Main) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop_or_leave() -> None:
        if stop.is_set():
            log.warning("process_killed_by_second_signal")
            os._exit(1)
        log.info("process_stopping")
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop_or_leave)
    await main(stop)


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
