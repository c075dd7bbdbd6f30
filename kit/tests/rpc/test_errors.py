"""What callers learn of failures, and what they do not."""

import echo_pb2 as pb
import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from kit import access
from kit.errors import (
    DETAILS_KEY,
    AppError,
    InvalidRequest,
    RemoteError,
    Violation,
    declared_reasons,
    from_rpc_error,
    to_status,
)


async def failure(caller, method, **fields):
    with pytest.raises(RemoteError) as failed:
        await caller.call(method, pb.EchoRequest(**fields))
    return failed.value


async def test_business_error_crosses_whole(rpc, stub):
    failed = await failure(rpc.anonymous(), stub.Greet, verb="refuse")
    assert failed.code is grpc.StatusCode.FAILED_PRECONDITION
    assert failed.reason == "SHELF_FULL"
    assert failed.domain == "test.aerostic.io"
    assert failed.message == "Das Regal ist voll (é): take something away."
    assert failed.metadata == {"shelfName": "upper"}
    assert failed.violations == (Violation("sentItems", "shelf.room", "must fit on the shelf"),)
    assert failed.retry_after == 2.5


async def test_business_error_is_a_standard_status(stub):
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stub.Greet(pb.EchoRequest(verb="refuse"), timeout=30)
    packed = dict(failed.value.trailing_metadata())[DETAILS_KEY]
    status = status_pb2.Status.FromString(packed)
    assert (status.code, status.message) == (9, failed.value.details())
    assert [detail.TypeName() for detail in status.details] == [
        "google.rpc.ErrorInfo",
        "google.rpc.RetryInfo",
        "google.rpc.BadRequest",
    ]


@pytest.mark.parametrize("verb", ["crash", "nothing", "timeout", "leak", "no_such_verb"])
async def test_defect_tells_nothing_but_that_it_is_one(rpc, stub, log_lines, verb):
    failed = await failure(rpc.anonymous(), stub.Greet, verb=verb)
    assert (failed.code, failed.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert failed.message == "Something went wrong on our side; the request id finds it in the logs."
    assert failed.metadata == {}
    assert [line["event"] for line in log_lines if line["log_level"] == "error"] == ["rpc_failed"]


async def test_defect_is_logged_with_its_cause(rpc, stub, log_lines):
    await failure(rpc.anonymous(), stub.Greet, verb="crash")
    logged = next(line for line in log_lines if line["event"] == "rpc_failed")
    assert isinstance(logged["exc_info"], ZeroDivisionError)


async def test_service_translates_what_it_knows(rpc, stub, log_lines):
    failed = await failure(rpc.anonymous(), stub.Send, verb="broken")
    assert failed.reason == "TOKEN_MISSING"
    failed = await failure(rpc.user(role="agent"), stub.Send, verb="broken")
    assert (failed.code, failed.reason) == (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")
    assert failed.message == "The shelf is away; try again shortly."
    assert "rpc_dependency_failed" in [line["event"] for line in log_lines]


async def test_method_that_the_servicer_lacks_is_unimplemented(rpc, stub):
    failed = await failure(rpc.anonymous(), stub.Missing)
    assert (failed.code, failed.reason) == (grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED")


async def test_every_broken_rule_is_named_in_json_names(rpc, stub):
    failed = await failure(
        rpc.user(role="agent"),
        stub.Send,
        short_text="eleven chars",
        page_size=-1,
        sent_items=[pb.Item(item_name="ok"), pb.Item()],
        named_items={"a b": pb.Item()},
        choice=pb.Choice(image_item=pb.Item()),
    )
    assert (failed.code, failed.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert set(failed.violations) == {
        Violation("shortText", "string.max_len", "must be at most 10 characters"),
        Violation("pageSize", "int32.gte", "must be greater than or equal to 0"),
        Violation("sentItems[1].itemName", "string.min_len", "must be at least 1 characters"),
        Violation("namedItems[a b].itemName", "string.min_len", "must be at least 1 characters"),
        Violation("choice.imageItem.itemName", "string.min_len", "must be at least 1 characters"),
    }
    assert "shortText must be at most 10 characters" in failed.message


async def test_missing_choice_names_the_alternatives(rpc, stub):
    failed = await failure(rpc.user(role="agent"), stub.Send, choice=pb.Choice())
    assert failed.violations == (
        Violation("choice.content", "oneof.required", "needs exactly one of plainText, imageItem"),
    )


async def test_hundreds_of_broken_rules_still_fit_into_the_answer(rpc, stub):
    failed = await failure(rpc.user(role="agent"), stub.Send, sent_items=[pb.Item() for _ in range(600)])
    assert failed.reason == "INVALID_REQUEST"
    assert 10 < len(failed.violations) < 600


async def test_bytes_that_are_no_message_are_refused(rpc):
    raw = rpc.channel._channel.unary_unary("/echotest.v1.EchoService/Greet")
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await raw(b"\xff\xff\xff", timeout=30)
    assert from_rpc_error(failed.value).reason == "INVALID_REQUEST"


def test_status_stays_small_whatever_it_says():
    violations = [Violation(f"field{number}", "rule", "x" * 10_000) for number in range(1000)]
    status = to_status(InvalidRequest("m" * 100_000, violations=violations), domain="d")
    assert status.ByteSize() < 4096


def test_answer_of_the_transport_has_a_plain_message_and_keeps_the_rest_for_logs():
    error = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, details="failed to connect to ipv4:10.0.0.7:9101")
    remote = from_rpc_error(error)
    assert (remote.reason, remote.is_outage) == ("UNAVAILABLE", True)
    assert "10.0.0.7" not in remote.message
    assert "10.0.0.7" in remote.detail


@pytest.mark.parametrize("packed", [b"\xff\xff", status_pb2.Status(code=3).SerializeToString()])
def test_malformed_details_do_not_hide_the_code(packed):
    metadata = grpc.aio.Metadata((DETAILS_KEY, packed))
    error = grpc.aio.AioRpcError(grpc.StatusCode.NOT_FOUND, trailing_metadata=metadata, details="gone")
    assert from_rpc_error(error).code is grpc.StatusCode.NOT_FOUND


def test_malformed_detail_is_skipped():
    status = status_pb2.Status(code=5, message="gone")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="X"))
    status.details[0].value = b"\xff\xff"
    metadata = grpc.aio.Metadata((DETAILS_KEY, status.SerializeToString()))
    remote = from_rpc_error(grpc.aio.AioRpcError(grpc.StatusCode.NOT_FOUND, trailing_metadata=metadata))
    assert (remote.reason, remote.message) == ("NOT_FOUND", "gone")


def test_reasons_of_kit_are_exactly_those_registered():
    declared = {reason for reason, error in declared_reasons().items() if error.__module__ == "kit.errors"}
    assert declared == access.registered_reasons()["aerostic.options.v1"]


def test_reason_must_be_a_word():
    with pytest.raises(AssertionError):
        type("Sloppy", (AppError,), {"reason": "not a word"})
