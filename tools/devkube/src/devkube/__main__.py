"""`python -m devkube build | up FOLDER`: build the programs, or run a cluster until Ctrl-C."""

import argparse
import asyncio
import contextlib
import signal
import sys
from pathlib import Path

from devkube import engine
from devkube.cluster import Cluster


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m devkube")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="build the control plane's programs; minutes, once per machine")
    up = commands.add_parser("up", help="run a control plane until Ctrl-C")
    up.add_argument("folder", type=Path)
    given = parser.parse_args()
    try:
        if given.command == "build":
            print(f"The control plane's programs are in {engine.build()}.")
        else:
            asyncio.run(_up(given.folder.resolve()))
    except (engine.EngineMissing, engine.BuildFailed) as error:
        sys.exit(str(error))


async def _up(folder: Path) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Cluster(folder) as cluster:
        print(f"export KUBECONFIG={cluster.kubeconfig}", flush=True)
        with contextlib.suppress(asyncio.CancelledError):
            await stop.wait()


if __name__ == "__main__":
    main()
