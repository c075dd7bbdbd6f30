"""Uploads that a service ends early keep its answer.

A service may refuse a file by its first bytes while the rest is still being sent. The write under way then fails, and
grpc.aio makes of that failure the outcome of the call, INTERNAL, where it notices it before the answer that caused it.
A failed write is no outcome: whatever ended the call, the service's refusal, a lost connection or the deadline, is told
as the call's status a moment later.
"""

from typing import Any, TypeVar

from grpc.aio import StreamUnaryCall

C = TypeVar("C", bound="StreamUnaryCall[Any, Any]")

_CORE = "_cython_call"
"""Not public. grpcio is pinned by hash, and a test fails should another version have no such attribute."""


def patient(call: C) -> C:
    """A call just begun, made to wait for its true status."""
    core = vars(call)[_CORE]
    vars(call)[_CORE] = _PatientCore(core)
    return call


class _PatientCore:
    """Stands for the core of a call."""

    def __init__(self, core: Any) -> None:
        self._core = core

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    def set_internal_error(self, error: str) -> None:
        """What grpc.aio calls when a write has failed; it asks for the status next, and waits for it."""
