"""Sampling and export of traces over OTLP, for processes that have an endpoint."""

from typing import Any

from opentelemetry import context as contexts
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler, SamplingResult, TraceIdRatioBased

from kit.telemetry import WANTED


class Roots(Sampler):
    """Of requests without a decision so many are sampled; those that `telemetry.wants` has chosen already are."""

    def __init__(self, ratio: float) -> None:
        self._ratio = ratio
        self._by_ratio = TraceIdRatioBased(ratio)

    def should_sample(
        self, parent_context: Context | None, trace_id: int, name: str, *rest: Any, **named: Any
    ) -> SamplingResult:
        chosen = parent_context is not None and contexts.get_value(WANTED, parent_context) is True
        sampler = ALWAYS_ON if chosen else self._by_ratio
        return sampler.should_sample(parent_context, trace_id, name, *rest, **named)

    def get_description(self) -> str:
        return f"Roots{{{self._ratio}}}"


def provider(*, service: str, endpoint: str, sample_ratio: float) -> TracerProvider:
    resource = Resource.create({"service.name": service, "service.namespace": "aerostic"})
    made = TracerProvider(resource=resource, sampler=ParentBased(Roots(sample_ratio)))
    insecure = not endpoint.startswith("https://")
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, insecure=insecure)))
    return made
