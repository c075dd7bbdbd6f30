"""Command line of the developer stack; the Makefile calls it.

python -m devstack up [--services core]    start everything, seed, print what to try; Ctrl-C stops it
python -m devstack down                    stop what another terminal started
python -m devstack ps | logs | reset
"""

import argparse
import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from devstack import logs
from devstack.databases import ROOT
from devstack.engines import postgres
from devstack.locks import FolderInUse, FolderLock, locked_by
from devstack.records import Records

FOLDER = ROOT / ".aerostic"
_STOP_SECONDS = 60


def main() -> int:
    options = _parser().parse_args()
    commands = {"up": up, "down": down, "ps": ps, "logs": show_logs, "reset": reset}
    return commands[options.command](options)


def up(options: argparse.Namespace) -> int:
    """Run the stack in the foreground until Ctrl-C, SIGTERM or the end of the terminal."""
    # The other commands answer at once; what this one needs takes seconds to import.
    from devstack.foreground import run  # noqa: PLC0415

    return run(options.folder, services=options.services)


def down(options: argparse.Namespace) -> int:
    """Ask the stack of this folder to stop, and wait until it has."""
    pid = locked_by(options.folder)
    if pid is None:
        print("Not running.")
        return 0
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while locked_by(options.folder) == pid:
        if time.monotonic() > deadline:
            print(
                f"Process {pid} has not stopped within {_STOP_SECONDS} s; its log folder may say why.", file=sys.stderr
            )
            return 1
        time.sleep(0.1)
    print("Stopped.")
    return 0


def ps(options: argparse.Namespace) -> int:
    """What runs, since when, with how much memory and on which ports."""
    if locked_by(options.folder) is None:
        print("Not running.")
        return 0
    print(f"{'NAME':<20} {'STATE':<17} {'PID':>7} {'MEMORY':>8} {'RESTARTS':>8}  PORTS")
    for record in Records(options.folder / "run").all():
        memory = f"{_memory_bytes(record.pid) / 1024 / 1024:.0f} MB"
        ports = ", ".join(str(port) for port in record.ports.values())
        print(f"{record.name:<20} {record.state:<17} {record.pid:>7} {memory:>8} {record.restarts:>8}  {ports}")
    return 0


def show_logs(options: argparse.Namespace) -> int:
    with suppress(KeyboardInterrupt, BrokenPipeError):
        logs.show(options.folder / "logs", options.names, follow=options.follow, lines=options.lines)
    return 0


def reset(options: argparse.Namespace) -> int:
    """Delete data, secrets and logs; the next start begins from nothing."""
    try:
        lock = FolderLock(options.folder)
    except FolderInUse as error:
        print(f"Still running (process {error.pid}): make down first.", file=sys.stderr)
        return 1
    postgres.remove(options.folder / "data" / "postgres")
    for name in ("data", "secrets", "logs", "run"):
        shutil.rmtree(options.folder / name, ignore_errors=True)
    lock.release()
    print("Data, secrets and logs are gone; the next start begins afresh.")
    return 0


def _memory_bytes(pid: int) -> int:
    """Of a process and its children, memory they share counted once (proportional set size where we may see it)."""
    total = 0
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for member in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                usage = member.memory_full_info()
                total += getattr(usage, "pss", usage.rss)
    return total


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="devstack", description="Runs the whole product on one machine.")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where data, secrets and logs live")
    commands = parser.add_subparsers(dest="command", required=True)
    starting = commands.add_parser("up", help="start everything; Ctrl-C stops it")
    starting.add_argument("--services", default="all", help="a group (core, all) or names with commas")
    commands.add_parser("down", help="stop what another terminal started")
    commands.add_parser("ps", help="what runs")
    commands.add_parser("reset", help="delete data, secrets and logs")
    reading = commands.add_parser("logs", help="what the programs say")
    reading.add_argument("names", nargs="*", help="only these")
    reading.add_argument("-f", "--follow", action="store_true", help="go on as they grow")
    reading.add_argument("-n", "--lines", type=int, default=20, help="how many of the last lines of each")
    return parser


if __name__ == "__main__":
    sys.exit(main())
