"""The request id: one word that finds everything one request did, in every process's logs."""

import re
import secrets
from contextvars import ContextVar

import structlog

HEADER = "x-request-id"

_ACCEPTED = re.compile(r"[A-Za-z0-9_-]{8,64}")
_current: ContextVar[str] = ContextVar("request_id", default="")


def accept(given: str | None) -> str:
    """The id a caller gave, or a new one where it gave none or one that could spoil a log."""
    return given if given and _ACCEPTED.fullmatch(given) else secrets.token_hex(16)


def bind(request_id: str) -> None:
    """Make this the current task's id: log lines carry it, and so do the calls it makes."""
    _current.set(request_id)
    structlog.contextvars.bind_contextvars(request_id=request_id)


def current() -> str:
    """The current task's id; empty outside of a request."""
    return _current.get()
