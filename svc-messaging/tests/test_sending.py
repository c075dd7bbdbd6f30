"""SendMessage: what is stored and commanded, the window, and repeated requests."""

import asyncio
import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from aerostic.messaging.v1 import conversation_service_pb2 as conversations_pb
from aerostic.messaging.v1 import message_service_pb2 as messages_pb
from google.protobuf.struct_pb2 import Struct
from grpc import StatusCode
from messaging_factories import make_media, make_message, moment
from messaging_rpc import PARTITIONS, TEMPLATE, refusal, to_send

from kit.ids import new_id
from kit.partitions import partition_of
from kit.proto_json import to_dict

DAY = timedelta(hours=24)


class TestAccepted:
    async def test_a_text_is_stored_as_queued_and_commanded_once(self, service, tenant_id):
        conversation = await service.conversation(tenant_id, unanswered_count=3)
        agent = service.agent(tenant_id)
        text = {"body": "Yes: https://example.com", "preview_url": True}
        request = to_send(conversation, text=text, request_id="r-1")
        message = await agent.call(service.messages.SendMessage, request)
        assert (message.status, message.direction, message.type) == ("queued", "outbound", "text")
        assert (message.text.body, message.text.preview_url) == ("Yes: https://example.com", True)
        assert (message.conversation_id, message.contact_id) == (
            str(conversation["id"]),
            str(conversation["contact_id"]),
        )
        assert message.whatsapp_account_id == str(conversation["whatsapp_account_id"])
        assert (message.sender_user_id, message.request_id) == (str(agent.principal.user_id), "r-1")
        [command] = await service.commands(tenant_id)
        number = conversation["phone_number_id"]
        assert command == {
            "subject": f"send.live.{partition_of(number, PARTITIONS)}",
            "messageId": message.id,
            "tenantId": str(tenant_id),
            "phoneNumberId": number,
            "contactId": message.contact_id,
        }
        read = messages_pb.GetMessageRequest(message_id=message.id)
        assert await agent.call(service.messages.GetMessage, read) == message

    async def test_the_conversation_moves_up_and_counts_as_answered(self, service, tenant_id):
        conversation = await service.conversation(tenant_id, unanswered_count=3, last_activity_at=moment(-60))
        message = await service.send(tenant_id, conversation)
        request = conversations_pb.GetConversationRequest(conversation_id=str(conversation["id"]))
        found = await service.agent(tenant_id).call(service.conversations.GetConversation, request)
        assert found.last_message == message
        assert found.unanswered_count == 0
        assert found.last_activity_time == message.create_time

    async def test_both_events_carry_what_callers_see(self, service, tenant_id):
        conversation = await service.conversation(tenant_id)
        message = await service.send(tenant_id, conversation)
        (queued, queued_data), (updated, updated_data) = await service.events(tenant_id)
        assert (queued, updated) == ("messaging.message.queued", "messaging.conversation.updated")
        assert queued_data == {"message": to_dict(message)}
        assert updated_data["conversation"]["lastMessage"] == to_dict(message)

    async def test_events_carry_the_trace_of_the_call(self, service, tenant_id):
        conversation, agent = await service.conversation(tenant_id), service.agent(tenant_id)
        parent = {"traceparent": f"00-{uuid.uuid4().hex}-00f067aa0ba902b7-01"}
        method, request = service.messages.SendMessage, to_send(conversation)
        await service.rpc.channel.call(method, request, token=agent.token, extra=parent)
        rows = await service.sql.fetch("SELECT headers FROM outbox WHERE subject LIKE $1", f"events.%.{tenant_id}")
        [trace] = [json.loads(row["headers"])["traceparent"].split("-")[1] for row in rows]
        assert trace == parent["traceparent"].split("-")[1]

    async def test_activity_never_moves_back(self, service, tenant_id):
        later = moment(3600)
        conversation = await service.conversation(tenant_id, last_activity_at=later)
        await service.send(tenant_id, conversation)
        query = "SELECT last_activity_at FROM conversations WHERE id = $1"
        assert await service.sql.fetchval(query, conversation["id"]) == later

    async def test_an_image_refers_to_its_file(self, service, tenant_id):
        conversation, media = await service.conversation(tenant_id), await make_media(service.sql, tenant_id)
        image = {"media_id": str(media["id"]), "caption": "The red one"}
        message = await service.send(tenant_id, conversation, image=image)
        assert (message.type, message.media.media_id, message.media.state) == ("image", str(media["id"]), "ready")
        assert message.media.caption == "The red one"

    async def test_a_template_is_kept_as_the_sender_needs_it(self, service, tenant_id):
        conversation = await service.conversation(tenant_id)
        component = Struct()
        component.update({"type": "body", "parameters": [{"type": "text", "text": "Ana"}]})
        template = {**TEMPLATE, "components": [component]}
        message = await service.send(tenant_id, conversation, template=template)
        assert to_dict(message.template) == {**TEMPLATE, "components": [to_dict(component)]}
        content = await service.sql.fetchval("SELECT content FROM messages WHERE id = $1", uuid.UUID(message.id))
        assert json.loads(content) == {**TEMPLATE, "components": [to_dict(component)]}

    async def test_an_answer_quotes_a_message_of_its_conversation(self, service, tenant_id):
        conversation = await service.conversation(tenant_id)
        question = await make_message(service.sql, tenant_id, conversation=conversation)
        message = await service.send(tenant_id, conversation, reply_to_message_id=str(question["id"]))
        assert message.reply_to_message_id == str(question["id"])
        assert message.reply_to_wamid == question["wamid"]

    async def test_messages_sent_at_once_stand_in_the_order_of_their_times(self, service, tenant_id):
        conversation = await service.conversation(tenant_id)
        await asyncio.gather(*(service.send(tenant_id, conversation, text={"body": str(n)}) for n in range(8)))
        rows = await service.sql.fetch(
            "SELECT id, created_at FROM messages WHERE tenant_id = $1 ORDER BY id", tenant_id
        )
        assert [row["created_at"] for row in rows] == sorted(row["created_at"] for row in rows)
        assert {each["messageId"] for each in await service.commands(tenant_id)} == {str(row["id"]) for row in rows}
        assert len(rows) == 8


class TestWindow:
    @pytest.mark.parametrize("left", [timedelta(minutes=1), DAY - timedelta(seconds=1)])
    async def test_it_is_open_for_24_hours(self, service, tenant_id, left):
        conversation = await service.conversation(tenant_id, customer_wrote_at=datetime.now(UTC) - DAY + left)
        assert (await service.send(tenant_id, conversation)).status == "queued"

    @pytest.mark.parametrize("over", [timedelta(0), timedelta(days=30)])
    async def test_afterwards_nothing_but_templates_may_be_sent(self, service, tenant_id, over):
        wrote_at = (datetime.now(UTC) - DAY - over).replace(microsecond=0)
        conversation = await service.conversation(tenant_id, customer_wrote_at=wrote_at)
        error = await refusal(service.send(tenant_id, conversation))
        assert (error.code, error.reason) == (StatusCode.FAILED_PRECONDITION, "WINDOW_CLOSED")
        assert error.metadata == {
            "lastCustomerMessageTime": f"{wrote_at:%Y-%m-%dT%H:%M:%SZ}",
            "windowExpireTime": f"{wrote_at + DAY:%Y-%m-%dT%H:%M:%SZ}",
        }
        media = await make_media(service.sql, tenant_id)
        error = await refusal(service.send(tenant_id, conversation, image={"media_id": str(media["id"])}))
        assert error.reason == "WINDOW_CLOSED"
        await service.assert_nothing_sent(tenant_id)
        assert (await service.send(tenant_id, conversation, template=TEMPLATE)).status == "queued"

    async def test_a_customer_who_never_wrote_has_no_times(self, service, tenant_id):
        conversation = await service.conversation(tenant_id, customer_wrote_at=None)
        error = await refusal(service.send(tenant_id, conversation))
        assert (error.reason, error.metadata) == ("WINDOW_CLOSED", {})


class TestRepeated:
    async def test_the_same_request_answers_the_first_message_as_it_is_now(self, service, tenant_id):
        conversation = await service.conversation(tenant_id)
        first = await service.send(tenant_id, conversation, request_id="r-1")
        # Neither what became of the message nor of the conversation stands in the way.
        change = "UPDATE messages SET status = 'sent', wamid = 'wamid.1', sent_at = now() WHERE id = $1"
        await service.sql.execute(change, uuid.UUID(first.id))
        await service.sql.execute("UPDATE conversations SET state = 'closed' WHERE id = $1", conversation["id"])
        again = await service.send(tenant_id, conversation, request_id="r-1")
        assert (again.id, again.status, again.wamid) == (first.id, "sent", "wamid.1")
        assert len(await service.commands(tenant_id)) == 1
        assert len(await service.events(tenant_id)) == 2

    async def test_at_the_same_moment_they_are_one_message(self, service, tenant_id):
        conversation = await service.conversation(tenant_id)
        sent = [service.send(tenant_id, conversation, request_id="twice") for _ in range(6)]
        answers = await asyncio.gather(*sent)
        assert all(answer == answers[0] for answer in answers)
        assert len(await service.commands(tenant_id)) == 1
        assert await service.count("messages", tenant_id) == 1

    async def test_another_content_or_conversation_is_refused(self, service, tenant_id):
        one, two = await service.conversation(tenant_id), await service.conversation(tenant_id)
        question = await make_message(service.sql, tenant_id, conversation=one)
        await service.send(tenant_id, one, request_id="r-1")
        others = [
            to_send(one, request_id="r-1", text={"body": "We have none."}),
            to_send(one, request_id="r-1", text={"body": "We have it.", "preview_url": True}),
            to_send(one, request_id="r-1", template=TEMPLATE),
            to_send(one, request_id="r-1", reply_to_message_id=str(question["id"])),
            to_send(two, request_id="r-1"),
        ]
        for request in others:
            error = await refusal(service.agent(tenant_id).call(service.messages.SendMessage, request))
            assert (error.code, error.reason) == (StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
        assert len(await service.commands(tenant_id)) == 1

    async def test_without_a_request_id_each_call_sends(self, service, tenant_id):
        conversation = await service.conversation(tenant_id)
        assert await service.send(tenant_id, conversation) != await service.send(tenant_id, conversation)
        assert len(await service.commands(tenant_id)) == 2
        assert await service.count("send_requests", tenant_id) == 0

    async def test_a_refused_request_keeps_its_id_free(self, service, tenant_id):
        conversation = await service.conversation(tenant_id, customer_wrote_at=None)
        assert (await refusal(service.send(tenant_id, conversation, request_id="r-1"))).reason == "WINDOW_CLOSED"
        message = await service.send(tenant_id, conversation, request_id="r-1", template=TEMPLATE)
        assert message.request_id == "r-1"

    async def test_request_ids_belong_to_their_workspace(self, service, tenant_id):
        theirs = new_id()
        mine, other = await service.conversation(tenant_id), await service.conversation(theirs)
        first = await service.send(tenant_id, mine, request_id="r-1")
        assert (await service.send(theirs, other, request_id="r-1")).id != first.id
