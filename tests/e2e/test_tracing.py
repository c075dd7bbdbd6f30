"""One trace follows a message: from Meta's webhook to the live stream, and from an answer to Meta and back."""

import json
import secrets
from collections.abc import AsyncIterator

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

from devstack.stack import Stack
from devstack.workspace import Workspace, until

pytestmark = pytest.mark.timeout(300)  # the first starts a product of its own


class Collector(TraceServiceServicer):
    """What an operator's trace collector would have received."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, str, str]] = []
        """Trace id, process, and the span's name."""

    async def Export(self, request, context):
        for resource in request.resource_spans:
            attributes = {each.key: each.value.string_value for each in resource.resource.attributes}
            self.steps += [
                (span.trace_id.hex(), attributes["service.name"], span.name)
                for scope in resource.scope_spans
                for span in scope.spans
            ]
        return ExportTraceServiceResponse()

    async def until_passed(self, trace_id: str, *wanted: tuple[str, str]) -> None:
        async def passed() -> bool | None:
            seen = {(process, name) for each, process, name in self.steps if each == trace_id}
            return set(wanted) <= seen or None

        try:
            await until(passed, "the trace being complete")
        except AssertionError:
            seen = {(process, name) for each, process, name in self.steps if each == trace_id}
            raise AssertionError(f"missing: {set(wanted) - seen}; seen: {seen}") from None


@pytest.fixture(scope="module")
async def collector() -> AsyncIterator[tuple[Collector, str]]:
    collector, server = Collector(), grpc.aio.server()
    add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield collector, f"http://127.0.0.1:{port}"
    await server.stop(0)


@pytest.fixture(scope="module")
async def traced(tmp_path_factory, collector) -> AsyncIterator[Stack]:
    """A product that traces everything."""
    overrides = {"AEROSTIC_OTLP_ENDPOINT": collector[1], "AEROSTIC_TRACE_SAMPLE_RATIO": "1"}
    async with Stack(tmp_path_factory.mktemp("traced"), free_ports=True, overrides=overrides) as stack:
        yield stack


async def test_a_trace_follows_a_webhook_to_the_live_stream(traced, collector) -> None:
    async with Workspace.create(traced.url("gateway"), traced.url("meta-emulator")) as shop, shop.stream() as live:
        await shop.customer_writes("16505550123", "Where are you?")
        await live.until(lambda stream: bool(stream.of_kind("messaging.message.received")), "the message")
        spans, _ = collector

        async def trace() -> str | None:
            return next((each for each, _, name in spans.steps if name == "inbox store"), None)

        await spans.until_passed(
            await until(trace, "the inbox's span"),
            ("gateway", "POST /webhooks/meta"),
            ("webhooks-ingest", "webhook received"),
            ("messaging-inbox", "inbox store"),
            ("gateway", "stream deliver"),
        )


async def test_a_trace_follows_an_answer_to_meta_and_to_the_live_stream(traced, collector) -> None:
    async with Workspace.create(traced.url("gateway"), traced.url("meta-emulator")) as shop:
        await shop.customer_writes("16505550124", "Where are you?")
        conversation = await shop.conversation_with("16505550124")
        trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
        headers = {
            "Authorization": f"Bearer {shop.token}",
            "Content-Type": "application/json",
            "traceparent": f"00-{trace_id}-{span_id}-01",
        }
        path = f"{shop.api}/v1/conversations/{conversation['id']}/messages"
        async with shop.stream():
            body = json.dumps({"text": {"body": "Here."}})
            async with shop.http.post(path, data=body, headers=headers) as answer:
                assert answer.status == 200
            await collector[0].until_passed(
                trace_id,
                ("gateway", "POST /v1/conversations/{conversation_id}/messages"),
                ("messaging-sender", "sender deliver"),
                ("messaging-sender", "sender record"),
                ("gateway", "stream deliver"),
            )
