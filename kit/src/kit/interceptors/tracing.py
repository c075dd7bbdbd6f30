"""A span per RPC, child of the caller's (W3C traceparent)."""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from kit import telemetry
from kit.interceptors.call import Call

_tracer = trace.get_tracer("kit.grpc")
_propagator = TraceContextTextMapPropagator()

# gRPC's codes that mean a defect or outage on our side; the others are answers.
_FAULTS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})


@contextmanager
def traced(call: Call) -> Iterator[None]:
    traceparent = call.first(telemetry.HEADER)
    if traceparent and not telemetry.wants(traceparent):
        with telemetry.untraced():
            yield
        return
    parent = _propagator.extract({key: values[0] for key, values in call.metadata.items()})
    service, _, method = call.method.path[1:].partition("/")
    attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
    with _tracer.start_as_current_span(
        call.method.path[1:], parent, kind=SpanKind.SERVER, attributes=attributes, record_exception=False
    ) as span:
        yield
        code = call.failure.code if call.failure else None
        span.set_attribute("rpc.grpc.status_code", code.value[0] if code else 0)
        if code and code.name in _FAULTS:
            span.set_status(Status(StatusCode.ERROR, call.failure.reason if call.failure else None))
