"""SendMessage: everything that it refuses, and that nothing is sent then."""

import uuid

import pytest
from aerostic.messaging.v1 import message_service_pb2 as messages_pb
from google.protobuf.struct_pb2 import Struct
from grpc import StatusCode
from messaging_factories import make_media, make_message
from messaging_rpc import TEMPLATE, refusal, serving

from kit.ids import new_id


async def test_an_unknown_conversation_is_refused(service, tenant_id):
    service.number(tenant_id)
    error = await refusal(service.send(tenant_id, new_id()))
    assert (error.code, error.reason) == (StatusCode.NOT_FOUND, "CONVERSATION_NOT_FOUND")


async def test_a_closed_conversation_is_refused(service, tenant_id):
    conversation = await service.conversation(tenant_id, state="closed")
    for fields in ({}, {"template": TEMPLATE}):
        error = await refusal(service.send(tenant_id, conversation, **fields))
        assert (error.code, error.reason) == (StatusCode.FAILED_PRECONDITION, "CONVERSATION_CLOSED")
    await service.assert_nothing_sent(tenant_id)


async def test_a_number_that_is_not_connected_any_more_is_refused(service, tenant_id):
    conversation = await service.conversation(tenant_id)
    service.tenants.numbers[str(tenant_id)].clear()
    service.number(tenant_id)
    error = await refusal(service.send(tenant_id, conversation, request_id="r-1"))
    assert (error.code, error.reason) == (StatusCode.FAILED_PRECONDITION, "NUMBER_NOT_CONNECTED")
    await service.assert_nothing_sent(tenant_id)


async def test_a_suspended_workspace_is_refused(service, tenant_id):
    conversation = await service.conversation(tenant_id)
    service.tenants.suspended.add(str(tenant_id))
    error = await refusal(service.send(tenant_id, conversation))
    assert (error.code, error.reason) == (StatusCode.PERMISSION_DENIED, "TENANT_SUSPENDED")
    await service.assert_nothing_sent(tenant_id)


async def test_a_number_whose_queue_is_full_is_refused(app_db, sql, server_bus, tenant_id):
    async with serving(app_db, sql, server_bus, number_max=3) as service:
        conversation, other = await service.conversation(tenant_id), await service.conversation(tenant_id)
        for status in ("sending", "queued", "delivered"):
            await make_message(sql, tenant_id, conversation=conversation, direction="outbound", status=status)
        await service.send(tenant_id, conversation)
        error = await refusal(service.send(tenant_id, conversation))
        assert (error.code, error.reason) == (StatusCode.RESOURCE_EXHAUSTED, "SEND_QUEUE_FULL")
        assert error.retry_after == 5
        assert len(await service.commands(tenant_id)) == 1
        assert (await service.send(tenant_id, other)).status == "queued"


async def test_a_quoted_message_that_is_not_there_or_that_whatsapp_does_not_know_is_refused(service, tenant_id):
    conversation, other = await service.conversation(tenant_id), await service.conversation(tenant_id)
    elsewhere = await make_message(service.sql, tenant_id, conversation=other)
    unsent = await make_message(
        service.sql, tenant_id, conversation=conversation, direction="outbound", status="failed"
    )
    theirs = await make_message(service.sql, new_id())
    for quoted in (new_id(), elsewhere["id"], unsent["id"], theirs["id"]):
        error = await refusal(service.send(tenant_id, conversation, reply_to_message_id=str(quoted)))
        assert (error.code, error.reason) == (StatusCode.NOT_FOUND, "MESSAGE_NOT_FOUND")
    await service.assert_nothing_sent(tenant_id)


@pytest.mark.parametrize(
    ("columns", "code", "reason"),
    [
        ({"direction": "inbound"}, StatusCode.NOT_FOUND, "MEDIA_NOT_FOUND"),
        ({"state": "pending"}, StatusCode.FAILED_PRECONDITION, "MEDIA_NOT_READY"),
        ({"state": "failed"}, StatusCode.FAILED_PRECONDITION, "MEDIA_NOT_READY"),
        ({"mime_type": "image/webp"}, StatusCode.INVALID_ARGUMENT, "MEDIA_TYPE_UNSUPPORTED"),
        ({"mime_type": "application/pdf"}, StatusCode.INVALID_ARGUMENT, "MEDIA_TYPE_UNSUPPORTED"),
        ({"size_bytes": 5 * 1024 * 1024 + 1}, StatusCode.INVALID_ARGUMENT, "MEDIA_TOO_LARGE"),
    ],
)
async def test_a_file_that_cannot_be_sent_as_an_image_is_refused(service, tenant_id, columns, code, reason):
    conversation = await service.conversation(tenant_id)
    media = await make_media(service.sql, tenant_id, **columns)
    error = await refusal(service.send(tenant_id, conversation, image={"media_id": str(media["id"])}))
    assert (error.code, error.reason) == (code, reason)
    if code is StatusCode.INVALID_ARGUMENT:
        assert [violation.field for violation in error.violations] == ["image.mediaId"]
    await service.assert_nothing_sent(tenant_id)


async def test_a_file_that_is_not_there_is_refused(service, tenant_id):
    conversation, theirs = await service.conversation(tenant_id), await make_media(service.sql, new_id())
    for media_id in (new_id(), theirs["id"]):
        error = await refusal(service.send(tenant_id, conversation, image={"media_id": str(media_id)}))
        assert error.reason == "MEDIA_NOT_FOUND"


async def test_template_values_that_no_row_can_hold_or_that_are_too_many_are_refused(service, tenant_id):
    conversation = await service.conversation(tenant_id)
    fine, nul, large = Struct(), Struct(), Struct()
    fine.update({"type": "body"})
    nul.update({"type": "body", "parameters": [{"text": "a\0b"}]})
    large.update({"type": "x" * 33_000})
    for components, field in (([fine, nul], "template.components[1]"), ([large], "template.components")):
        template = {**TEMPLATE, "components": components}
        error = await refusal(service.send(tenant_id, conversation, template=template))
        assert (error.code, error.reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
        assert [violation.field for violation in error.violations] == [field]
    await service.assert_nothing_sent(tenant_id)


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("text.body", {"text": {"body": ""}}),
        ("text.body", {"text": {"body": "x" * 4097}}),
        ("text.body", {"text": {"body": "a\0b"}}),
        ("image.mediaId", {"image": {"media_id": "7"}}),
        ("image.caption", {"image": {"media_id": str(uuid.uuid4()), "caption": "x" * 1025}}),
        ("template.name", {"template": {**TEMPLATE, "name": "Upper"}}),
        ("template.language", {"template": {**TEMPLATE, "language": "english"}}),
        ("requestId", {"request_id": "not allowed!"}),
        ("replyToMessageId", {"reply_to_message_id": "7"}),
    ],
)
async def test_a_wrong_field_is_named_and_nothing_is_sent(service, tenant_id, field, fields):
    conversation = await service.conversation(tenant_id)
    error = await refusal(service.send(tenant_id, conversation, **fields))
    assert (error.code, error.reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert {violation.field for violation in error.violations} == {field}
    await service.assert_nothing_sent(tenant_id)


async def test_no_content_is_refused(service, tenant_id):
    conversation = await service.conversation(tenant_id)
    request = messages_pb.SendMessageRequest(conversation_id=str(conversation["id"]))
    error = await refusal(service.agent(tenant_id).call(service.messages.SendMessage, request))
    assert [violation.field for violation in error.violations] == ["content"]
