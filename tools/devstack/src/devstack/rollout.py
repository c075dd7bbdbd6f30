"""Replace processes of a running stack one by one without an interruption, as Deployments of the chart do.

    stack = Stack(folder, free_ports=True, release=previous)
    async with Rollout.over(stack) as rollout, stack:
        stack.release = None                      # from now on: the code of this checkout
        await stack.migrate()
        await rollout.replace("svc-auth")

A new process starts beside the old one; when it is ready whoever connects reaches it instead, and then the old one is
told to end and drains. Callers reach processes by wires, which stand in for the Services of a cluster.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Self

from devstack import readiness
from devstack.child import Child
from devstack.ports import LOOPBACK, PortClaims
from devstack.processes import PROCESSES, Process
from devstack.stack import Stack
from devstack.wires import Wire

CALLED = ("svc-auth", "svc-tenants", "messaging-server", "webhooks-ingest", "gateway")
"""Those that others connect to."""

_READY_SECONDS = 60.0
_POLL_SECONDS = 0.05
# From the removal of an endpoint to SIGTERM, as `preStopSeconds` of the chart: nobody waits for addresses here.
_SETTLE_SECONDS = 0.2
# More than any process gives itself (settings …DRAIN_SECONDS).
_DRAIN_SECONDS = 35.0


@dataclass
class Rollout:
    """What replaced what."""

    stack: Stack
    wires: dict[str, Wire]
    drained: dict[str, float] = field(default_factory=dict)
    """Seconds that the last one replaced took to end."""
    _claims: PortClaims = field(default_factory=PortClaims)
    _new: dict[str, Child] = field(default_factory=dict)
    _count: int = 0

    @classmethod
    @asynccontextmanager
    async def over(cls, stack: Stack) -> AsyncIterator[Self]:
        """Before the stack starts."""
        async with AsyncExitStack() as wires:
            rollout = cls(
                stack, {name: await wires.enter_async_context(Wire.into(stack, _process(name).port)) for name in CALLED}
            )
            try:
                yield rollout
            finally:
                await rollout._end_all()
                rollout._claims.release()

    def url(self, name: str) -> str:
        """Where a process is reached, whichever it is at the time."""
        return f"http://{LOOPBACK}:{self.wires[name].port}"

    async def replace(self, name: str) -> None:
        """One process of the old release for one of the stack's."""
        process = _process(name)
        self._count += 1
        ports = {setting: str(self._claims.claim()) for setting in (process.port, *process.listens)}
        command = self.stack.command(process, ports)
        new = Child(command, self.stack.log(f"{name}-{self._count}"))
        await new.start()
        await self._until_ready(name, new, int(ports[process.port]))
        if name in self.wires:
            self.wires[name].lead_to(int(ports[process.port]))
        await asyncio.sleep(_SETTLE_SECONDS)
        await self._end(name)
        self._new[name] = new

    async def _until_ready(self, name: str, new: Child, port: int) -> None:
        check = readiness.CHECKS[_process(name).ready]
        async with asyncio.timeout(_READY_SECONDS):
            while not await check(port):
                if not new.running:
                    lines = "\n".join(new.last_lines())
                    raise AssertionError(f"the new {name} ended with {new.exit_code}:\n{lines}")
                await asyncio.sleep(_POLL_SECONDS)

    async def _end_all(self) -> None:
        await asyncio.gather(*(new.stop(grace_seconds=_DRAIN_SECONDS) for new in self._new.values()))

    async def _end(self, name: str) -> None:
        clock = asyncio.get_running_loop()
        began = clock.time()
        if name in self._new:
            await self._new.pop(name).stop(grace_seconds=_DRAIN_SECONDS)
        else:
            await self.stack.take_down(name)
        self.drained[name] = clock.time() - began


def _process(name: str) -> Process:
    return next(process for process in PROCESSES if process.name == name)
