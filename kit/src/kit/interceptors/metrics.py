"""Counts and times of RPCs, and the one log line that each leaves."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from prometheus_client import Counter, Gauge, Histogram

from kit.interceptors.call import Call
from kit.metrics import SECONDS

log = structlog.get_logger()

_seconds = Histogram(
    "aerostic_rpc_seconds",
    "Time from the arrival of an RPC to its answer",
    ["method"],
    buckets=SECONDS,
)
_completed = Counter("aerostic_rpc_completed_total", "RPCs answered", ["method", "code"])
_running = Gauge("aerostic_rpc_running", "RPCs under way")


@contextmanager
def measured(call: Call) -> Iterator[None]:
    _running.inc()
    try:
        yield
    finally:
        _running.dec()
        seconds, code = call.seconds, call.failure.code.name if call.failure else "OK"
        _seconds.labels(call.method.full_name).observe(seconds)
        _completed.labels(call.method.full_name, code).inc()
        log.info(
            "rpc_completed",
            method=call.method.full_name,
            code=code,
            reason=call.failure.reason if call.failure else None,
            duration_ms=round(seconds * 1000, 1),
            tenant=str(call.principal.tenant_id) if call.principal.tenant_id else None,
            caller=call.principal.name or call.principal.role or call.principal.kind,
        )
