"""Calls to other services: identity, retries, deadlines, traces, and what failures mean in between."""

import asyncio
import json
import uuid

import echo_pb2 as pb
import echo_pb2_grpc as stubs
import grpc
import pytest
from echo_contract import EchoServer, translate
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from kit import access, deadlines, grpc_client, grpc_presence, request_ids, telemetry
from kit.errors import RemoteError
from kit.grpc_client import Channel, service_config
from kit.testing.rpc import serve

TENANT = uuid.uuid4()
ROUNDING = 0.5
"""The header that carries a deadline has few digits, and gRPC rounds up."""


def services(rpc):
    return [pb.DESCRIPTOR.services_by_name["EchoService"]]


@pytest.fixture
async def sender(rpc):
    """A channel of the sender's process."""
    async with Channel(rpc.target, rpc.authority.identities["messaging-sender"], services=services(rpc)) as channel:
        yield channel


async def failure(awaitable):
    with pytest.raises(RemoteError) as failed:
        await awaitable
    return failed.value


async def test_process_calls_as_itself(sender):
    answer = await sender.call(sender.stub(stubs.EchoServiceStub).Inside, pb.EchoRequest())
    assert (answer.facts["kind"], answer.facts["name"]) == ("service", "messaging-sender")


async def test_process_passes_a_users_token_on(rpc, sender):
    user = rpc.user(tenant_id=TENANT, role="agent")
    stub = sender.stub(stubs.EchoServiceStub)
    answer = await sender.call(stub.Send, pb.EchoRequest(), token=user.token)
    assert (answer.facts["kind"], answer.facts["tenant"]) == ("user", str(TENANT))


async def test_process_calls_for_nobody(sender):
    stub = sender.stub(stubs.EchoServiceStub)
    assert (await sender.call(stub.Greet, pb.EchoRequest(), token="")).facts["kind"] == "anonymous"


async def test_repeatable_call_is_retried_through_an_outage(rpc, stub, echo):
    answer = await rpc.user(role="admin").call(stub.Manage, pb.EchoRequest(verb="flaky"))
    assert answer.text == "at last"
    assert echo.calls["flaky"] == 3


async def test_read_is_retried_through_an_outage(rpc, stub, echo):
    assert (await rpc.anonymous().call(stub.Greet, pb.EchoRequest(verb="flaky"))).text == "at last"
    assert echo.calls["flaky"] == 3


async def test_other_call_is_never_repeated(rpc, stub, echo):
    failed = await failure(rpc.user(role="agent").call(stub.Send, pb.EchoRequest(verb="flaky")))
    assert failed.is_outage
    assert echo.calls["flaky"] == 1


async def test_answer_other_than_an_outage_is_final(rpc, stub, echo):
    await failure(rpc.anonymous().call(stub.Greet, pb.EchoRequest(verb="refuse")))
    await failure(rpc.anonymous().call(stub.Greet, pb.EchoRequest(verb="crash")))
    assert (echo.calls["refuse"], echo.calls["crash"]) == (1, 1)


def test_exactly_the_repeatable_methods_of_all_contracts_are_retried():
    config = json.loads(service_config())
    retried = {(name["service"], name["method"]) for entry in config["methodConfig"] for name in entry["name"]}
    assert ("aerostic.messaging.v1.MessageService", "ListMessages") in retried
    assert ("aerostic.messaging.v1.MessageService", "SendMessage") not in retried
    methods = [
        (m.descriptor.containing_service.full_name, m.descriptor.name, m.descriptor.GetOptions())
        for m in access.all_methods()
    ]
    assert retried == {(service, name) for service, name, options in methods if options.idempotency_level}


async def test_every_call_has_a_deadline(sender):
    answer = await sender.call(sender.stub(stubs.EchoServiceStub).Inside, pb.EchoRequest())
    assert 0 < float(answer.facts["remaining"]) < grpc_client.DEFAULT_SECONDS + ROUNDING


async def test_call_within_a_call_has_what_is_left_of_its_time(sender):
    async def within():
        deadlines.start(20)
        return await sender.call(sender.stub(stubs.EchoServiceStub).Inside, pb.EchoRequest(), timeout=60)

    answer = await asyncio.create_task(within())
    assert 0 < float(answer.facts["remaining"]) < 20 + ROUNDING


async def test_call_after_the_time_is_over_fails_at_once(sender):
    async def within():
        deadlines.start(-1)
        return await sender.call(sender.stub(stubs.EchoServiceStub).Inside, pb.EchoRequest())

    failed = await failure(asyncio.create_task(within()))
    assert failed.reason == "DEADLINE_EXCEEDED"


async def test_request_id_follows_the_request(sender):
    async def within():
        request_ids.bind("the-one-id")
        return await sender.call(sender.stub(stubs.EchoServiceStub).Inside, pb.EchoRequest())

    assert (await asyncio.create_task(within())).facts["request_id"] == "the-one-id"


async def test_trace_follows_the_request(sender):
    span = TracerProvider().get_tracer("test").start_span("request")
    with trace.use_span(span):
        answer = await sender.call(sender.stub(stubs.EchoServiceStub).Inside, pb.EchoRequest())
    assert answer.facts["trace_id"] == f"{span.get_span_context().trace_id:032x}"


async def test_what_is_untraced_here_is_untraced_there(rpc, stub):
    with telemetry.untraced():
        answer = await rpc.anonymous().call(stub.Greet, pb.EchoRequest())
    assert answer.facts["trace_id"] == telemetry.UNTRACED.split("-")[1]


@pytest.fixture
async def stopping():
    """A server that answers its first call as one does that stops: unlooked at, with a bare CANCELLED."""
    calls = []

    async def answer(request, context):
        calls.append(request)
        if len(calls) == 1:
            await context.abort(grpc.StatusCode.CANCELLED, "")
        return pb.Echo(text="from the successor")

    handler = grpc.unary_unary_rpc_method_handler(answer, pb.EchoRequest.FromString, pb.Echo.SerializeToString)
    server = grpc.aio.server()
    server.add_registered_method_handlers("echotest.v1.EchoService", {"Greet": handler, "Send": handler})
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with Channel(f"127.0.0.1:{port}", services=[pb.DESCRIPTOR.services_by_name["EchoService"]]) as channel:
        yield channel, channel.stub(stubs.EchoServiceStub)
    await server.stop(None)


async def test_a_call_that_a_stopping_server_drops_is_an_outage_and_not_the_callers_own_doing(stopping):
    channel, stub = stopping
    failed = await failure(channel.call(stub.Send, pb.EchoRequest()))
    assert (failed.reason, failed.is_outage) == ("UNAVAILABLE", True)


async def test_a_read_that_a_stopping_server_drops_is_asked_again(stopping):
    channel, stub = stopping
    assert (await channel.call(stub.Greet, pb.EchoRequest())).text == "from the successor"


async def test_a_call_with_a_request_id_that_a_stopping_server_drops_is_made_again(stopping):
    channel, stub = stopping
    assert (await channel.call(stub.Send, pb.EchoRequest(request_id="once"))).text == "from the successor"


async def test_unreachable_service_is_an_outage_without_addresses_in_the_message():
    async with Channel("127.0.0.1:1", services=[pb.DESCRIPTOR.services_by_name["EchoService"]]) as channel:
        failed = await failure(channel.call(channel.stub(stubs.EchoServiceStub).Send, pb.EchoRequest()))
    assert (failed.reason, failed.is_outage) == ("UNAVAILABLE", True)
    assert "127.0.0.1" not in failed.message
    assert "127.0.0.1" in failed.detail


async def test_a_service_that_is_started_again_is_waited_for_by_whoever_has_the_time(echo, port, monkeypatch):
    monkeypatch.setattr(grpc_presence, "_AWAITED_SECONDS", 60)
    async with serve(echo, port=port) as first:
        channel = Channel(first.target, services=services(first))
        stub = channel.stub(stubs.EchoServiceStub)
        assert await channel.call(stub.Greet, pb.EchoRequest())

    async def ask():
        await channel.awaited()
        return await channel.call(stub.Greet, pb.EchoRequest())

    async with channel, asyncio.timeout(60):
        assert (await failure(channel.call(stub.Greet, pb.EchoRequest()))).is_outage
        asking = [asyncio.create_task(ask()) for _ in range(20)]
        await asyncio.sleep(0.3)
        assert not any(each.done() for each in asking)
        async with serve(echo, port=port):
            assert all([await each for each in asking])


async def test_a_service_that_stays_away_is_waited_for_once(echo, monkeypatch):
    monkeypatch.setattr(grpc_presence, "_AWAITED_SECONDS", 0.1)
    async with Channel("127.0.0.1:1") as channel:
        with pytest.raises(RemoteError):
            await channel.call(channel.stub(stubs.EchoServiceStub).Greet, pb.EchoRequest(), token="", timeout=5)
        await channel.awaited()
        await asyncio.sleep(0.2)
        monkeypatch.setattr(grpc_presence, "_LOOK_SECONDS", 3600)
        await asyncio.wait_for(channel.awaited(), 30)


async def test_channel_finds_a_service_that_came_back(echo, port):
    async with serve(echo, port=port) as first:
        channel = Channel(first.target, services=services(first))
        stub = channel.stub(stubs.EchoServiceStub)
        assert await channel.call(stub.Greet, pb.EchoRequest())
    assert (await failure(channel.call(stub.Greet, pb.EchoRequest()))).is_outage
    async with serve(echo, port=port), asyncio.timeout(30):
        while True:
            try:
                assert await channel.call(stub.Greet, pb.EchoRequest())
            except RemoteError:
                await asyncio.sleep(0.1)
            else:
                break
    await channel.close()


class TestServiceBehindAService:
    """What a caller learns when the service it asked depends on another one."""

    @pytest.fixture
    async def front(self, rpc):
        server = EchoServer()
        async with serve(server, translate=translate) as running:
            stub = rpc.stub(stubs.EchoServiceStub)
            server.peer = (rpc.channel, stub.Greet)
            yield running

    async def ask(self, front, verb):
        method = front.stub(stubs.EchoServiceStub).Send
        return await front.user(role="agent").call(method, pb.EchoRequest(verb="relay", short_text=verb))

    async def test_answer_passes(self, front):
        assert (await self.ask(front, "")).facts["kind"] == "anonymous"

    async def test_outage_is_an_outage(self, front):
        failed = await failure(self.ask(front, "broken"))
        assert (failed.code, failed.reason) == (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")
        assert "shelf" not in failed.message

    @pytest.mark.parametrize("verb", ["refuse", "crash"])
    async def test_refusal_that_the_servicer_did_not_expect_is_a_defect(self, front, verb, log_lines):
        failed = await failure(self.ask(front, verb))
        assert (failed.code, failed.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
        assert "rpc_peer_refused" in [line["event"] for line in log_lines]
