"""Counts and times of RPCs, and the one log line that each leaves."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from prometheus_client import Counter, Gauge, Histogram

from kit.interceptors.call import Call

log = structlog.get_logger()

_seconds = Histogram(
    "aerostic_rpc_seconds",
    "Time from the arrival of an RPC to its answer",
    ["method"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
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
