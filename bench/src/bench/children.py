"""Load generators and references run in processes of their own: one JSON line in, JSON lines out."""

import asyncio
import json
import os
import resource
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvloop

Json = dict[str, Any]
Tell = Callable[[Json], None]

_LINE_BYTES_MAX = 1 << 30


class LoadFailed(Exception):
    """A generator ended without a result. The text is what it said."""


async def run(module: str, spec: Json) -> Json:
    """What the load came to, with the CPU seconds that it took under "cpuSeconds"."""
    async with started(module, spec) as child:
        return await child.result()


class Running:
    """A child that works."""

    def __init__(self, process: asyncio.subprocess.Process, module: str) -> None:
        self._process = process
        self._module = module

    @property
    def pid(self) -> int:
        return self._process.pid

    async def told(self) -> Json:
        """The next thing that it says."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise LoadFailed(f"{self._module} ended with exit code {await self._process.wait()}")
        return dict(json.loads(line))

    def command(self, **command: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")

    async def ask(self, **command: Any) -> Json:
        """Give it a command and hear its answer."""
        self.command(**command)
        return await self.told()

    async def result(self) -> Json:
        """Its last word. Raises LoadFailed."""
        while True:
            told = await self.told()
            if "result" in told:
                return dict(told["result"])


@asynccontextmanager
async def started(module: str, spec: Json) -> AsyncIterator[Running]:
    """A child that ends with the block."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"bench.{module}"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_BYTES_MAX,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(spec).encode() + b"\n")
    try:
        yield Running(process, module)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def apart(count: int) -> list[list[int]]:
    """Cores for so many children, each its own where there are enough: what their specs have as "cores". Two processes
    that wake each other by turns may otherwise stay on one core for seconds, with the other idle.
    """
    cores = sorted(os.sched_getaffinity(0))
    return [[core] for core in cores[:count]] if len(cores) >= count else [cores] * count


async def next_line() -> str:
    """The child's side: the next command."""
    line: str = await asyncio.to_thread(sys.stdin.readline)
    if not line:
        sys.exit()
    return line


def main(work: Callable[[Json, Tell], Awaitable[Json]]) -> None:
    """The child's side: read the spec, work, print the result."""
    spec = json.loads(sys.stdin.readline())
    if spec.get("cores"):
        os.sched_setaffinity(0, spec["cores"])

    def tell(told: Json) -> None:
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()

    async def working() -> Json:
        return await work(spec, tell)

    result = uvloop.run(working())
    used = resource.getrusage(resource.RUSAGE_SELF)
    tell({"result": {**result, "cpuSeconds": used.ru_utime + used.ru_stime, "pid": os.getpid()}})
