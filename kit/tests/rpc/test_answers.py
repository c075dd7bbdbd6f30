"""Answers in the form that their caller takes."""

import json
import uuid
from datetime import UTC, datetime

import echo_pb2 as pb
import echo_pb2_grpc as stubs
import grpc
import pytest

from kit import answers
from kit.errors import InvalidRequest
from kit.testing.rpc import serve

MOMENT = datetime(2026, 1, 31, 23, 59, 59, 500_000, tzinfo=UTC)
ID = uuid.UUID(int=7)
AS_IT_COMES = {"request_serializer": pb.EchoRequest.SerializeToString, "response_deserializer": None}
GREET, WHO_AM_I = "/echotest.v1.EchoService/Greet", "/echotest.v1.EchoService/WhoAmI"


class Printing(stubs.EchoServiceServicer):
    """Prints one method's answer itself, and leaves the other to the kit."""

    async def Greet(self, request, context):
        if request.verb == "refuse":
            raise InvalidRequest("No.")
        return answers.either(lambda: pb.Echo(text="message"), lambda: {"text": "printed", "at": MOMENT, "id": ID})

    async def WhoAmI(self, request, context):
        return pb.Echo(text="message")


@pytest.fixture
async def rpc():
    async with serve(Printing()) as running:
        yield running


async def ask(rpc, path, *, verb="", form=None):
    """The bytes of the answer."""
    async with grpc.aio.insecure_channel(rpc.target) as channel:
        metadata = [("authorization", f"Bearer {rpc.user().token}")] + ([(answers.HEADER, form)] if form else [])
        return await channel.unary_unary(path, **AS_IT_COMES)(pb.EchoRequest(verb=verb), metadata=metadata, timeout=30)


async def test_who_takes_json_gets_what_the_method_prints(rpc):
    raw = await ask(rpc, GREET, form="json")
    expected = {"text": "printed", "at": "2026-01-31T23:59:59.500000Z", "id": str(ID)}
    assert json.loads(raw) == expected
    assert answers.parsed(raw, pb.Echo.FromString) == raw


@pytest.mark.parametrize("form", [None, "xml", "JSON"])
async def test_everybody_else_gets_the_message(rpc, form):
    raw = await ask(rpc, GREET, form=form)
    assert answers.parsed(raw, pb.Echo.FromString) == pb.Echo(text="message")


async def test_a_method_that_prints_nothing_answers_the_message_to_everybody(rpc):
    raw = await ask(rpc, WHO_AM_I, form="json")
    assert answers.parsed(raw, pb.Echo.FromString) == pb.Echo(text="message")


async def test_one_callers_form_is_not_the_next_ones(rpc):
    stub = rpc.stub(stubs.EchoServiceStub)
    await ask(rpc, GREET, form="json")
    assert await rpc.anonymous().call(stub.Greet, pb.EchoRequest()) == pb.Echo(text="message")


async def test_failures_are_told_alike_in_both_forms(rpc):
    for form in (None, "json"):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await ask(rpc, GREET, verb="refuse", form=form)
        assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_an_empty_message_is_no_json():
    assert answers.parsed(b"", pb.Echo.FromString) == pb.Echo()
