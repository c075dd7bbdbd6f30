"""Traces follow one message through the platform: W3C trace context in gRPC metadata, NATS headers and envelopes.

Without an endpoint nothing is exported, and an unsampled request costs next to nothing.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

HEADER = "traceparent"

_propagator = TraceContextTextMapPropagator()
_tracer = trace.get_tracer("aerostic")


def configure(*, service: str, endpoint: str, sample_ratio: float) -> None:
    """Set up this process's traces. What arrives with a decision keeps it; new requests are sampled by the ratio."""
    resource = Resource.create({"service.name": service, "service.namespace": "aerostic"})
    provider = TracerProvider(resource=resource, sampler=ParentBased(TraceIdRatioBased(sample_ratio)))
    if endpoint:
        insecure = not endpoint.startswith("https://")
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, insecure=insecure)))
    trace.set_tracer_provider(provider)


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
    name: str, *, parent: Mapping[str, str] | None = None, kind: SpanKind = SpanKind.INTERNAL, **attributes: str | int
) -> Iterator[Span]:
    """A step of the current trace, or of the one that `parent` carries."""
    context: Context | None = _propagator.extract(parent) if parent else None
    with _tracer.start_as_current_span(name, context=context, kind=kind, attributes=attributes) as started:
        yield started
