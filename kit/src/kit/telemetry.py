"""Traces follow one message through the platform: W3C trace context in gRPC metadata, NATS headers and envelopes.

Without an endpoint nothing is exported. Whoever handles many requests a second asks `wants` first, since even a span
that nobody keeps takes longer than the rest of a webhook's way; what is not wanted runs `untraced`, here and in the
services that it calls.
"""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

HEADER = "traceparent"

_propagator = TraceContextTextMapPropagator()
_tracer = trace.get_tracer("aerostic")
WANTED = contexts.create_key("aerostic-wanted")
"""Says in a context that the trace that begins there was chosen already."""
# The last digit of the flags, whose last bit says "sampled".
_SAMPLED = frozenset("13579bdf")
# One for all that is not wanted: ids would only tell such requests apart.
_UNTRACED = trace.set_span_in_context(NonRecordingSpan(SpanContext(trace_id=1, span_id=1, is_remote=False)))
UNTRACED = f"00-{1:032x}-{1:016x}-00"
"""The traceparent of a request that is not traced."""

# The share of new requests that are traced; it is the process's.
_ratio = 0.0


def configure(*, service: str, endpoint: str, sample_ratio: float) -> None:
    """Set up this process's traces. What arrives with a decision keeps it; new requests are sampled by the ratio.

    Where nothing is exported no new request is traced, and a caller's trace is only handed on.
    """
    if not endpoint:
        return
    # Exporting takes an SDK whose import is a sixth of a process's start.
    from kit import trace_export  # noqa: PLC0415

    global _ratio  # noqa: PLW0603
    _ratio = sample_ratio
    trace.set_tracer_provider(trace_export.provider(service=service, endpoint=endpoint, sample_ratio=sample_ratio))


def wants(traceparent: str) -> bool:
    """Whether a request is traced: as its caller decided, else by the ratio. The span after a yes has `wanted`."""
    if traceparent:
        return traceparent[-1] in _SAMPLED
    return random.random() < _ratio


@contextmanager
def untraced() -> Iterator[None]:
    """A step that makes no spans, and whose calls to others make none."""
    token = contexts.attach(_UNTRACED)
    try:
        yield
    finally:
        contexts.detach(token)


def is_untraced() -> bool:
    """Whether it was decided that the current step makes no spans."""
    current = trace.get_current_span().get_span_context()
    return current.is_valid and not current.trace_flags.sampled


def headers() -> dict[str, str]:
    """The current trace as headers; empty where it is not sampled."""
    carrier: dict[str, str] = {}
    if trace.get_current_span().get_span_context().trace_flags.sampled:
        _propagator.inject(carrier)
    return carrier


def traceparent() -> str:
    """The current trace as one word; empty where it is not sampled."""
    return headers().get(HEADER, "")


@contextmanager
def span(
    name: str,
    *,
    parent: Mapping[str, str] | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
    wanted: bool = False,
    **attributes: str | int,
) -> Iterator[Span]:
    """A step of the current trace, or of the one that `parent` carries. `wanted`: a new trace is sampled."""
    context: Context | None = _propagator.extract(parent) if parent else None
    if wanted:
        context = contexts.set_value(WANTED, True, context)
    with _tracer.start_as_current_span(name, context=context, kind=kind, attributes=attributes) as started:
        yield started
