"""How long the running call may still take, for whatever it calls in turn."""

import asyncio
from contextvars import ContextVar

_current: ContextVar[float | None] = ContextVar("deadline", default=None)


def start(seconds: float) -> None:
    """Set the current task's deadline, so many seconds from now."""
    _current.set(asyncio.get_running_loop().time() + seconds)


def remaining_seconds() -> float | None:
    """Seconds until the running call's deadline, never below 0; None outside of a call."""
    deadline = _current.get()
    return None if deadline is None else max(0.0, deadline - asyncio.get_running_loop().time())
