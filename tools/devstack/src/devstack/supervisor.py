"""Start programs in the order of their needs, keep them running, stop them in reverse."""

import asyncio
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from devstack import logs, ports, readiness
from devstack.child import Child
from devstack.records import Records
from devstack.units import PortTaken, Service, StartFailed, Task, Unit, levels

Say = Callable[[str], None]

_FIRST_DELAY_SECONDS = 0.25
_LONGEST_DELAY_SECONDS = 15.0
# A program that ran this long had recovered: it is started again at once, and the next delay is the first one.
_HEALTHY_SECONDS = 5.0
_POLL_SECONDS = 0.05
_REMIND_SECONDS = 15.0
_ROTATE_SECONDS = 5.0


@dataclass
class _Running:
    service: Service
    # Made anew for each start, as the command may depend on what was prepared.
    child: Child = field(init=False)
    started: float = 0.0
    restarts: int = 0
    state: str = "starting"
    came_up: bool = False
    # Set while somebody wants it down (a test, or the end of the stack).
    held: bool = False
    watcher: asyncio.Task[None] | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)


class Supervisor:
    """Runs the units given. Create and use it in the main thread: the children live as long as their parent thread."""

    def __init__(self, units: Sequence[Unit], *, folder: Path, say: Say) -> None:
        self._units = list(units)
        self._folder = folder
        self._say = say
        self._running: dict[str, _Running] = {}
        self._done: dict[str, asyncio.Event] = {unit.name: asyncio.Event() for unit in self._units}
        self._records = Records(folder / "run")
        self._stopping = False
        self._keeper: asyncio.Task[None] | None = None
        self._levels = levels(self._units)

    async def start(self) -> None:
        """Bring everything up; on failure take everything down again and raise `StartFailed`."""
        if left := await asyncio.to_thread(self._records.end_leftovers):
            self._say(f"Ended what a killed start had left behind: {', '.join(left)}.")
        await self._claim_ports()
        self._keeper = asyncio.create_task(self._rotate_logs())
        reminder = asyncio.create_task(self._remind())
        try:
            async with asyncio.TaskGroup() as group:
                for unit in self._units:
                    group.create_task(self._bring_up(unit))
        except BaseExceptionGroup as failures:
            await self.stop()
            if causes := failures.subgroup(StartFailed):
                raise causes.exceptions[0] from None
            raise
        except asyncio.CancelledError:
            await self.stop()
            raise
        finally:
            reminder.cancel()

    async def stop(self) -> None:
        """Stop everything, those first that others do not need."""
        self._stopping = True
        for running in self._running.values():
            running.held = True
        if self._keeper is not None:
            self._keeper.cancel()
        for level in reversed(self._levels):
            await asyncio.gather(*(self._end(self._running[name]) for name in level if name in self._running))

    def kill_all(self) -> None:
        """End everything at once, for a second Ctrl-C."""
        self._stopping = True
        for running in self._running.values():
            running.held = True
            running.child.send(signal.SIGKILL)

    async def kill(self, name: str) -> None:
        """SIGKILL one program, as a crash would; it is started again."""
        running = self._running[name]
        running.ready.clear()
        await running.child.kill()

    async def take_down(self, name: str, *, kill: bool = False) -> None:
        """Stop one program and leave it down until `bring_back`."""
        running = self._running[name]
        running.held = True
        if kill:
            running.child.send(signal.SIGKILL)
        await self._end(running)

    async def bring_back(self, name: str) -> None:
        """Start a program that was taken down and wait until it is ready."""
        running = self._running[name]
        running.held = False
        await self._spawn(running)
        await self.until_ready(name)

    async def restart(self, name: str) -> None:
        await self.take_down(name)
        await self.bring_back(name)

    async def until_ready(self, name: str, *, seconds: float = 60) -> None:
        """Wait until a program works, after a kill for instance."""
        async with asyncio.timeout(seconds):
            await self._running[name].ready.wait()

    def pid(self, name: str) -> int:
        return self._running[name].child.pid

    def state(self, name: str) -> str:
        return self._running[name].state

    def restarts(self, name: str) -> int:
        return self._running[name].restarts

    def log(self, name: str) -> Path:
        return self._folder / "logs" / f"{name}.log"

    @property
    def services(self) -> list[str]:
        return [unit.name for unit in self._units if isinstance(unit, Service)]

    async def _claim_ports(self) -> None:
        """All of them before anything starts, so that one message tells of each that is taken."""
        wanted = [
            (unit.name, setting, port)
            for unit in self._units
            if isinstance(unit, Service)
            for setting, port in unit.ports.items()
        ]
        free = await asyncio.gather(*(ports.gets_free(port) for _, _, port in wanted))
        if taken := [place for place, is_free in zip(wanted, free, strict=True) if not is_free]:
            await self.stop()
            raise PortTaken(taken)

    async def _bring_up(self, unit: Unit) -> None:
        for need in unit.needs:
            await self._done[need].wait()
        began = time.monotonic()
        if isinstance(unit, Task):
            try:
                await unit.run()
            except (RuntimeError, OSError) as error:
                raise StartFailed(f"{unit.name} failed: {error}") from error
        else:
            await self._first_start(unit)
        self._done[unit.name].set()
        self._say(f"  {unit.name:<22} {'done' if isinstance(unit, Task) else 'ready':<6}{_seconds_since(began)}")

    async def _first_start(self, service: Service) -> None:
        logs.rotate(self.log(service.name))
        running = _Running(service)
        await self._spawn(running)
        deadline = time.monotonic() + service.start_seconds
        while not running.ready.is_set():
            if not running.child.running:
                raise StartFailed(self._explain(running, f"ended with exit code {running.child.exit_code}"))
            if time.monotonic() > deadline:
                raise StartFailed(self._explain(running, f"was not ready within {service.start_seconds:.0f} s"))
            await asyncio.sleep(_POLL_SECONDS)

    async def _spawn(self, running: _Running) -> None:
        await self._launch(running)
        running.watcher = asyncio.create_task(self._watch(running))

    async def _launch(self, running: _Running) -> None:
        service = running.service
        running.ready.clear()
        if service.prepare is not None:
            try:
                await asyncio.to_thread(service.prepare)
            except (RuntimeError, OSError) as error:
                raise StartFailed(f"{service.name} could not be prepared: {error}") from error
        running.started = time.monotonic()
        running.child = Child(service.command(), self.log(service.name))
        self._running[service.name] = running
        await running.child.start()
        self._note(running, "starting")

    async def _watch(self, running: _Running) -> None:
        """Report readiness, then start the program again whenever it ends unasked."""
        name, delay = running.service.name, 0.0
        while True:
            probing = asyncio.create_task(self._probe(running))
            try:
                code = await running.child.wait()
            finally:
                probing.cancel()
            running.ready.clear()
            if not running.came_up or self._wanted_down(running):
                return
            if time.monotonic() - running.started > _HEALTHY_SECONDS:
                delay = 0.0
            when = f"in {delay:g} s" if delay else "at once"
            self._say(f"{name} {_how_it_ended(code)}; starting it again {when} (log: {running.child.log}).")
            self._note(running, "waiting to start")
            await asyncio.sleep(delay)
            delay = min(max(delay * 2, _FIRST_DELAY_SECONDS), _LONGEST_DELAY_SECONDS)
            running.restarts += 1
            await self._launch(running)

    def _wanted_down(self, running: _Running) -> bool:
        return running.held or self._stopping

    async def _probe(self, running: _Running) -> None:
        while not await running.service.ready():  # noqa: ASYNC110 (another process cannot set an event)
            await asyncio.sleep(_POLL_SECONDS)
        running.came_up = True
        running.ready.set()
        self._note(running, "ready")
        if running.restarts:
            self._say(f"{running.service.name} is ready again.")
        if running.service.healthy is not None:
            # For programs that live on in a state that only a restart ends. The watcher starts them again.
            await readiness.until_unhealthy(running.service.healthy)
            self._say(f"{running.service.name} says that it is not healthy; ending it (log: {running.child.log}).")
            await running.child.stop(grace_seconds=running.service.stop_seconds)

    async def _end(self, running: _Running) -> None:
        # The watcher first, so that nothing is started again meanwhile.
        if running.watcher is not None:
            running.watcher.cancel()
            with suppress(asyncio.CancelledError):
                await running.watcher
        await running.child.stop(grace_seconds=running.service.stop_seconds)
        running.ready.clear()
        running.state = "stopped"
        self._records.remove(running.service.name)

    def _note(self, running: _Running, state: str) -> None:
        running.state = state
        self._records.write(
            running.service.name,
            state=state,
            pid=running.child.pid,
            restarts=running.restarts,
            ports=dict(running.service.ports),
        )

    def _explain(self, running: _Running, what: str) -> str:
        lines = "\n".join(f"    {line}" for line in running.child.last_lines())
        return f"{running.service.name} {what}. Its last lines ({running.child.log}):\n{lines}"

    async def _remind(self) -> None:
        while True:
            await asyncio.sleep(_REMIND_SECONDS)
            waiting = [unit.name for unit in self._units if not self._done[unit.name].is_set()]
            self._say(f"  … still on the way: {', '.join(waiting)}")

    async def _rotate_logs(self) -> None:
        while True:
            await asyncio.sleep(_ROTATE_SECONDS)
            for name in self._running:
                logs.rotate_when_large(self.log(name))


def _how_it_ended(code: int) -> str:
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"


def _seconds_since(began: float) -> str:
    return f"{time.monotonic() - began:5.1f} s"
