"""The server around the servicers: request ids, deadlines, limits, streams, health, drain."""

import asyncio
import uuid

import echo_pb2 as pb
import echo_pb2_grpc as stubs
import grpc
import pytest
from echo_contract import EchoServer
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY

from kit.errors import RemoteError
from kit.grpc_server import Server, ServerOptions
from kit.interceptors import tracing
from kit.testing.rpc import Authority, serve

TENANT = uuid.UUID("0190a000-0000-7000-8000-000000000001")
HOLD = pb.EchoRequest(verb="hold")
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def failure(awaitable):
    with pytest.raises(RemoteError) as failed:
        await awaitable
    return failed.value


class TestRequestId:
    @pytest.mark.parametrize("given", ["abcdefgh", "A-b_9" * 4, "x" * 64])
    async def test_good_one_is_kept_and_echoed(self, stub, given):
        call = stub.Greet(pb.EchoRequest(), metadata=[("x-request-id", given)], timeout=30)
        assert (await call).facts["request_id"] == given
        assert dict(await call.trailing_metadata())["x-request-id"] == given

    @pytest.mark.parametrize("given", ["", "short", "x" * 65, "with space here", 'quote"quote', "a;b;c;d;e"])
    async def test_other_one_is_replaced(self, stub, given):
        call = stub.Greet(pb.EchoRequest(), metadata=[("x-request-id", given)], timeout=30)
        request_id = (await call).facts["request_id"]
        assert request_id != given
        assert len(request_id) == 32
        assert dict(await call.trailing_metadata())["x-request-id"] == request_id

    async def test_failure_carries_it_too(self, stub):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await stub.Greet(pb.EchoRequest(verb="crash"), metadata=[("x-request-id", "find-me-1")], timeout=30)
        assert dict(failed.value.trailing_metadata())["x-request-id"] == "find-me-1"


class TestRecords:
    async def test_one_line_per_call(self, rpc, stub, log_lines):
        await rpc.user(tenant_id=TENANT, role="agent").call(stub.Send, pb.EchoRequest())
        await failure(rpc.anonymous().call(stub.Greet, pb.EchoRequest(verb="refuse")))
        lines = [line for line in log_lines if line["event"] == "rpc_completed"]
        assert all(line.pop("duration_ms") >= 0 for line in lines)
        common = {"event": "rpc_completed", "log_level": "info"}
        assert lines == [
            common
            | {"method": "echotest.v1.EchoService.Send", "code": "OK", "reason": None}
            | {"tenant": str(TENANT), "caller": "agent"},
            common
            | {"method": "echotest.v1.EchoService.Greet", "code": "FAILED_PRECONDITION", "reason": "SHELF_FULL"}
            | {"tenant": None, "caller": "anonymous"},
        ]

    async def test_calls_are_counted_and_timed(self, rpc, stub):
        def count(code):
            labels = {"method": "echotest.v1.EchoService.WhoAmI", "code": code}
            return REGISTRY.get_sample_value("aerostic_rpc_completed_total", labels) or 0

        before = count("OK"), count("UNAUTHENTICATED")
        await rpc.user().call(stub.WhoAmI, pb.EchoRequest())
        await failure(rpc.anonymous().call(stub.WhoAmI, pb.EchoRequest()))
        assert (count("OK"), count("UNAUTHENTICATED")) == (before[0] + 1, before[1] + 1)
        timed = {"method": "echotest.v1.EchoService.WhoAmI"}
        assert REGISTRY.get_sample_value("aerostic_rpc_seconds_count", timed) >= 2
        assert REGISTRY.get_sample_value("aerostic_rpc_running") == 0

    async def test_span_continues_the_callers_trace(self, stub, monkeypatch):
        spans = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(spans))
        monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("test"))
        trace_id, parent_id = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
        headers = [("traceparent", f"00-{trace_id}-{parent_id}-01")]
        await stub.Greet(pb.EchoRequest(), metadata=headers, timeout=30)
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Greet(pb.EchoRequest(verb="crash"), metadata=headers, timeout=30)
        good, bad = spans.get_finished_spans()
        assert good.name == "echotest.v1.EchoService/Greet"
        assert f"{good.context.trace_id:032x}" == trace_id
        assert f"{good.parent.span_id:016x}" == parent_id
        assert (good.status.is_ok, good.attributes["rpc.grpc.status_code"]) == (True, 0)
        assert (bad.status.is_ok, bad.attributes["rpc.grpc.status_code"]) == (False, 13)


class TestDeadlines:
    async def test_callers_deadline_ends_the_work(self, rpc, stub, echo):
        seconds = 0.2
        while not echo.started.is_set():  # within so short a time a busy machine may not even begin
            failed = await failure(rpc.anonymous().call(stub.Greet, HOLD, timeout=seconds))
            assert failed.code is grpc.StatusCode.DEADLINE_EXCEEDED
            seconds *= 2
        await asyncio.wait_for(echo.cancelled.wait(), 30)

    async def test_server_sets_one_where_the_caller_has_none(self, echo):
        async with serve(echo, options=ServerOptions(unary_seconds_max=0.2)) as rpc:
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await rpc.stub(stubs.EchoServiceStub).Greet(HOLD)
        assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert echo.cancelled.is_set()

    async def test_server_shortens_one_that_is_too_generous(self, echo):
        async with serve(echo, options=ServerOptions(unary_seconds_max=0.2)) as rpc:
            failed = await failure(rpc.anonymous().call(rpc.stub(stubs.EchoServiceStub).Greet, HOLD, timeout=600))
        assert (failed.reason, failed.domain) == ("DEADLINE_EXCEEDED", "test.aerostic.io")

    async def test_servicer_knows_what_is_left(self, rpc, stub):
        answer = await rpc.anonymous().call(stub.Greet, pb.EchoRequest(), timeout=20)
        assert 0 < float(answer.facts["remaining"]) <= 20

    async def test_caller_that_goes_away_ends_the_work(self, rpc, stub, echo, log_lines):
        call = asyncio.create_task(rpc.anonymous().call(stub.Greet, HOLD))
        await asyncio.wait_for(echo.started.wait(), 30)
        call.cancel()
        await asyncio.wait_for(echo.cancelled.wait(), 30)
        assert await rpc.anonymous().call(stub.Greet, pb.EchoRequest())
        codes = [line["code"] for line in log_lines if line["event"] == "rpc_completed"]
        assert codes == ["CANCELLED", "OK"]


class TestLimits:
    async def test_call_beyond_the_limit_is_told_to_come_back(self, echo):
        async with serve(echo, options=ServerOptions(calls_max=2)) as rpc:
            greet = rpc.stub(stubs.EchoServiceStub).Greet
            held = [asyncio.create_task(rpc.anonymous().call(greet, HOLD)) for _ in range(2)]
            await asyncio.wait_for(echo.crowded.wait(), 30)
            failed = await failure(rpc.anonymous().call(greet, pb.EchoRequest()))
            assert (failed.code, failed.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
            assert failed.retry_after == 1
            assert await _health(rpc) == SERVING  # probes are not counted
            echo.release.set()
            assert [answer.text for answer in await asyncio.gather(*held)] == ["released"] * 2
            assert await rpc.anonymous().call(greet, pb.EchoRequest())

    async def test_request_beyond_the_size_is_refused_and_the_server_lives_on(self, echo):
        async with serve(echo, options=ServerOptions(message_bytes_max=1000)) as rpc:
            greet = rpc.stub(stubs.EchoServiceStub).Greet
            failed = await failure(rpc.anonymous().call(greet, pb.EchoRequest(chunk=b"x" * 2000)))
            assert failed.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert await rpc.anonymous().call(greet, pb.EchoRequest(chunk=b"x" * 900))


class TestStreams:
    async def test_answers_come_one_by_one(self, rpc, stub):
        agent = rpc.user(tenant_id=TENANT, role="agent")
        request = pb.EchoRequest(page_size=50, chunk=b"x" * 100_000)
        answers = [answer async for answer in agent.stream(stub.Count, request)]
        assert [answer.number for answer in answers] == list(range(50))

    async def test_requests_come_one_by_one(self, rpc, stub):
        async def words():
            for word in ("a", "b", "c"):
                yield pb.EchoRequest(short_text=word)

        agent = rpc.user(tenant_id=TENANT, role="agent")
        assert (await agent.upload(stub.Join, words())).text == "a,b,c"

    async def test_every_request_of_a_stream_is_validated(self, rpc, stub):
        async def words():
            yield pb.EchoRequest(short_text="fine")
            yield pb.EchoRequest(short_text="much too long")

        failed = await failure(rpc.user(role="agent").upload(stub.Join, words()))
        assert [violation.field for violation in failed.violations] == ["shortText"]

    async def test_refusal_arrives_while_the_rest_is_still_being_sent(self, rpc, stub):
        async def words():
            yield pb.EchoRequest(short_text="much too long")
            for _ in range(30):
                yield pb.EchoRequest(chunk=b"x" * 1000)

        agent = rpc.user(role="agent")
        # Which of the two is noticed first, the refusal or the write that it ends, is up to chance: a few in a hundred.
        reasons = {(await failure(agent.upload(stub.Join, words()))).reason for _ in range(300)}
        assert reasons == {"INVALID_REQUEST"}

    async def test_streams_are_closed_to_strangers(self, rpc, stub, echo):
        async def words():
            yield pb.EchoRequest()

        with pytest.raises(RemoteError) as failed:
            _ = [answer async for answer in rpc.anonymous().stream(stub.Count, pb.EchoRequest(page_size=1))]
        assert failed.value.reason == "TOKEN_MISSING"
        assert (await failure(rpc.anonymous().upload(stub.Join, words()))).reason == "TOKEN_MISSING"
        assert not echo.started.is_set()

    async def test_failure_in_the_middle_arrives_after_what_came_before(self, rpc, stub):
        answers = rpc.user(role="agent").stream(stub.Count, pb.EchoRequest(verb="fail", page_size=9))
        assert [(await anext(answers)).number, (await anext(answers)).number] == [0, 1]
        assert (await failure(anext(answers))).reason == "SHELF_FULL"

    async def test_reader_that_leaves_ends_the_stream(self, rpc, stub, echo):
        answers = rpc.user(role="agent").stream(stub.Count, pb.EchoRequest(verb="hold", page_size=9))
        async for answer in answers:
            if answer.number == 1:
                break
        await answers.aclose()
        await asyncio.wait_for(echo.cancelled.wait(), 30)

    async def test_stream_has_a_deadline_of_its_own(self, echo):
        async with serve(echo, options=ServerOptions(stream_seconds_max=0.2)) as rpc:
            count = rpc.stub(stubs.EchoServiceStub).Count
            with pytest.raises(RemoteError) as failed:
                _ = [a async for a in rpc.user(role="agent").stream(count, pb.EchoRequest(verb="hold", page_size=9))]
        assert failed.value.reason == "DEADLINE_EXCEEDED"
        assert echo.cancelled.is_set()


async def _until_refused(rpc):
    """The listener is closed by gRPC's own threads, a moment after it was asked to."""
    async with asyncio.timeout(30):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", rpc.server.port)
            except ConnectionRefusedError:
                return
            except ConnectionResetError:
                continue  # taken just before the end
            writer.close()


async def failure_of(call):
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    return failed.value


async def _health(rpc, service=""):
    async with grpc.aio.insecure_channel(rpc.target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return (await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=30)).status


def _server(echo, **options):
    authenticator = Authority().authenticator
    address = options.pop("address", "127.0.0.1:0")
    options = ServerOptions(**options)
    return Server(address, [echo], domain="test.aerostic.io", authenticator=authenticator, options=options)


class TestLife:
    async def test_health_follows_the_servers_life(self, echo):
        server = _server(echo)
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=60)
            assert (await watch.read()).status == NOT_SERVING
            await server.ready()
            assert (await watch.read()).status == SERVING
            draining = asyncio.create_task(server.drain(seconds=60))
            assert (await watch.read()).status == NOT_SERVING
            watch.cancel()
            await asyncio.wait_for(draining, 30)

    async def test_health_is_told_per_service(self, rpc):
        assert await _health(rpc, "echotest.v1.EchoService") == SERVING

    async def test_drain_lets_running_calls_finish_and_takes_no_new_ones(self, rpc, stub, echo):
        held = asyncio.create_task(rpc.anonymous().call(stub.Greet, HOLD))
        await asyncio.wait_for(echo.started.wait(), 30)
        draining = asyncio.create_task(rpc.server.drain(seconds=30))
        await _until_refused(rpc)
        async with grpc.aio.insecure_channel(rpc.target) as newcomer:
            refused = await failure_of(stubs.EchoServiceStub(newcomer).Greet(pb.EchoRequest(), timeout=30))
        assert refused.code() is grpc.StatusCode.UNAVAILABLE
        assert not draining.done()
        echo.release.set()
        assert (await held).text == "released"
        await asyncio.wait_for(draining, 30)

    async def test_drain_cuts_off_what_does_not_finish(self, rpc, stub, echo):
        held = asyncio.create_task(rpc.anonymous().call(stub.Greet, HOLD))
        await asyncio.wait_for(echo.started.wait(), 30)
        await asyncio.wait_for(rpc.server.drain(seconds=0.1), 30)
        assert (await failure(held)).is_outage
        await asyncio.wait_for(echo.cancelled.wait(), 30)

    async def test_serve_runs_until_told_to_stop(self, echo):
        server, stop = _server(echo), asyncio.Event()
        serving = asyncio.create_task(server.serve(stop))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            greet = stubs.EchoServiceStub(channel).Greet
            assert await greet(pb.EchoRequest(), timeout=30, wait_for_ready=True)
        stop.set()
        await asyncio.wait_for(serving, 30)

    async def test_taken_port_is_one_clear_line(self, rpc, echo):
        with pytest.raises(OSError, match=f"Cannot listen on {rpc.target}: it is taken"):
            _server(echo, address=rpc.target)

    @pytest.mark.parametrize("on", [True, False])
    async def test_reflection_only_where_switched_on(self, echo, on):
        async def questions():
            yield reflection_pb2.ServerReflectionRequest(list_services="")

        async with (
            serve(echo, options=ServerOptions(reflection=on)) as rpc,
            grpc.aio.insecure_channel(rpc.target) as channel,
        ):
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            if on:
                answers = [answer async for answer in stub.ServerReflectionInfo(questions(), timeout=30)]
                names = [service.name for service in answers[0].list_services_response.service]
                assert "echotest.v1.EchoService" in names
            else:
                with pytest.raises(grpc.aio.AioRpcError) as failed:
                    _ = [answer async for answer in stub.ServerReflectionInfo(questions(), timeout=30)]
                assert failed.value.code() is grpc.StatusCode.UNIMPLEMENTED


class TestServicers:
    def test_method_that_is_not_async_is_refused_at_start(self):
        class Blocking(EchoServer):
            def Greet(self, request, context):
                return pb.Echo()

        with pytest.raises(TypeError, match="Greet must be `async def`"):
            _server(Blocking())

    def test_stream_that_is_no_generator_is_refused_at_start(self):
        class Returning(EchoServer):
            async def Count(self, request, context):
                return [pb.Echo()]

        with pytest.raises(TypeError, match="Count must be an async generator"):
            _server(Returning())

    def test_object_that_is_no_servicer_is_refused_at_start(self):
        with pytest.raises(TypeError, match="derives from no generated servicer"):
            _server(object())
