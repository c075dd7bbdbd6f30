"""What a supervisor runs: tasks that end, services that stay, and what each needs first."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from devstack import ports
from devstack.child import Command


class StartFailed(RuntimeError):
    """A step did not come up. The text is for the person at the terminal."""


class PortTaken(StartFailed):
    """Somebody else listens where programs of ours want to: one line for each (name, setting, port)."""

    def __init__(self, taken: Sequence[tuple[str, str, int]]) -> None:
        super().__init__("\n".join(_taken(*place) for place in taken))


@dataclass(frozen=True)
class Task:
    """A step that runs to its end before others may start."""

    name: str
    run: Callable[[], Awaitable[None]]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Service:
    """A program that stays. `ports`: setting name → port it listens on. `prepare` runs before each start. `healthy` is
    asked once it is ready: a program that says no for long is started again.
    """

    name: str
    command: Callable[[], Command]
    ready: Callable[[], Awaitable[bool]]
    needs: tuple[str, ...] = ()
    ports: Mapping[str, int] = field(default_factory=dict)
    prepare: Callable[[], None] | None = None
    healthy: Callable[[], Awaitable[bool]] | None = None
    start_seconds: float = 90
    stop_seconds: float = 15


Unit = Task | Service


def levels(units: Sequence[Unit]) -> list[list[str]]:
    """Names by depth: each level needs only earlier ones. Refuses needs that form a circle or name nobody."""
    left, found, placed = {unit.name: set(unit.needs) for unit in units}, [], set[str]()
    while left:
        level = [name for name, needs in left.items() if needs <= placed]
        if not level:
            raise ValueError(f"These wait for each other or for something unknown: {', '.join(left)}.")
        found.append(level)
        placed.update(level)
        for name in level:
            del left[name]
    return found


def _taken(name: str, setting: str, port: int) -> str:
    holder = ports.holder(port)
    by = f" by {holder}" if holder else ""
    return f"Port {port} for {name} is taken{by}. Free it, or set {setting} in .env to another port."
