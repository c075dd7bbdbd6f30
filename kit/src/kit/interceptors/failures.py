"""What a failure means to the caller. Only AppErrors are told as they are; everything else is translated or hidden."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from kit.errors import AppError, Cancelled, DeadlineExceeded, Internal, RemoteError, Unavailable
from kit.interceptors.call import Call

log = structlog.get_logger()

Translate = Callable[[BaseException], AppError | None]
"""A service's own knowledge of exceptions, such as kit.db.as_app_error; None where it has none."""


@contextmanager
def caught(call: Call, translate: Translate) -> Iterator[None]:
    """Let no exception out; leave what the caller is told in `call.failure`. A cancelled call stays cancelled."""
    try:
        yield
    except asyncio.CancelledError as error:
        if not _is_cancelled():
            # It leaked out of a task that the servicer awaited: a defect like any other.
            log.error("rpc_failed", exc_info=error)
            call.failure = Internal()
            return
        # gRPC cancels for both: a caller that went away, and one whose time is over.
        call.failure = DeadlineExceeded() if call.seconds >= call.timeout_seconds else Cancelled()
        raise
    except Exception as error:  # noqa: BLE001 (the one place where every failure ends)
        call.failure = _meaning(error, translate)


def _is_cancelled() -> bool:
    """Whether somebody asked this task to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _meaning(error: Exception, translate: Translate) -> AppError:
    if isinstance(error, RemoteError):
        return _meaning_of_remote(error)
    if isinstance(error, AppError):
        return error
    if known := translate(error):
        log.warning("rpc_dependency_failed", reason=known.reason, error=type(error).__name__, detail=str(error)[:500])
        return known
    log.error("rpc_failed", exc_info=error)
    return Internal()


def _meaning_of_remote(error: RemoteError) -> AppError:
    """A service behind this one failed, and the servicer did not say what that means here."""
    fields = {"domain": error.domain, "code": error.code.name, "reason": error.reason, "detail": error.detail[:500]}
    if error.is_outage:
        log.warning("rpc_peer_unavailable", **fields)
        return Unavailable("A part of the platform does not answer; try again shortly.", retry_after=error.retry_after)
    log.error("rpc_peer_refused", **fields, exc_info=error)
    return Internal()
