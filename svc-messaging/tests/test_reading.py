"""Contacts, conversations, messages and parked events, as they are read and closed."""

import uuid

import pytest
from aerostic.messaging.v1 import contact_service_pb2 as contacts_pb
from aerostic.messaging.v1 import conversation_service_pb2 as conversations_pb
from aerostic.messaging.v1 import message_service_pb2 as messages_pb
from aerostic.messaging.v1 import parked_event_service_pb2 as parked_pb
from grpc import StatusCode
from messaging_factories import (
    insert,
    make_contact,
    make_conversation,
    make_media,
    make_message,
    make_parked_event,
    moment,
)
from messaging_rpc import refusal

from kit.ids import new_id
from kit.proto_json import to_dict


class TestContacts:
    async def test_a_contact_shows_every_identity(self, service, tenant_id):
        row = await make_contact(service.sql, tenant_id, name="Ana", username="@ana", user_id="US.1")
        request = contacts_pb.GetContactRequest(contact_id=str(row["id"]))
        contact = await service.agent(tenant_id).call(service.contacts.GetContact, request)
        assert (contact.id, contact.name, contact.username) == (str(row["id"]), "Ana", "@ana")
        assert (contact.phone, contact.wa_id, contact.user_id) == (row["phone"], row["wa_id"], "US.1")
        assert contact.create_time.ToDatetime(row["created_at"].tzinfo) == row["created_at"]

    async def test_an_unknown_one_is_not_found(self, service, tenant_id):
        request = contacts_pb.GetContactRequest(contact_id=str(new_id()))
        error = await refusal(service.agent(tenant_id).call(service.contacts.GetContact, request))
        assert (error.code, error.reason) == (StatusCode.NOT_FOUND, "CONTACT_NOT_FOUND")

    async def test_the_newest_comes_first(self, service, tenant_id):
        rows = [await make_contact(service.sql, tenant_id) for _ in range(3)]
        request = contacts_pb.ListContactsRequest()
        answer = await service.agent(tenant_id).call(service.contacts.ListContacts, request)
        assert [contact.id for contact in answer.contacts] == [str(row["id"]) for row in reversed(rows)]

    async def test_a_workspace_without_contacts_has_an_empty_page(self, service, tenant_id):
        answer = await service.agent(tenant_id).call(service.contacts.ListContacts, contacts_pb.ListContactsRequest())
        assert answer == contacts_pb.ListContactsResponse()


class TestConversations:
    async def test_a_conversation_shows_its_contact_newest_message_and_window(self, service, tenant_id):
        row = await make_conversation(service.sql, tenant_id, unanswered_count=2)
        message = await make_message(service.sql, tenant_id, conversation=row, body="Hello?")
        request = conversations_pb.GetConversationRequest(conversation_id=str(row["id"]))
        found = await service.agent(tenant_id).call(service.conversations.GetConversation, request)
        assert (found.state, found.unanswered_count) == ("open", 2)
        assert found.contact.id == str(row["contact_id"])
        assert (found.last_message.id, found.last_message.text.body) == (str(message["id"]), "Hello?")
        assert found.window_expire_time.seconds - int(row["customer_wrote_at"].timestamp()) == 24 * 3600

    async def test_an_unknown_one_is_not_found(self, service, tenant_id):
        agent, conversation_id = service.agent(tenant_id), str(new_id())
        for method, request in (
            (service.conversations.GetConversation, conversations_pb.GetConversationRequest),
            (service.conversations.CloseConversation, conversations_pb.CloseConversationRequest),
            (service.messages.ListMessages, messages_pb.ListMessagesRequest),
        ):
            error = await refusal(agent.call(method, request(conversation_id=conversation_id)))
            assert (error.code, error.reason) == (StatusCode.NOT_FOUND, "CONVERSATION_NOT_FOUND")

    async def test_the_most_recently_active_comes_first_and_filters_hold(self, service, tenant_id):
        contact = await make_contact(service.sql, tenant_id)
        idle = await make_conversation(service.sql, tenant_id, last_activity_at=moment(-60))
        closed = await make_conversation(
            service.sql, tenant_id, contact_id=contact["id"], state="closed", last_activity_at=moment(-120)
        )
        busy = await make_conversation(service.sql, tenant_id, contact_id=contact["id"])

        async def listed(**fields):
            request = conversations_pb.ListConversationsRequest(**fields)
            answer = await service.agent(tenant_id).call(service.conversations.ListConversations, request)
            return [uuid.UUID(each.id) for each in answer.conversations]

        assert await listed() == [busy["id"], idle["id"], closed["id"]]
        assert await listed(state="open") == [busy["id"], idle["id"]]
        assert await listed(state="closed") == [closed["id"]]
        assert await listed(contact_id=str(contact["id"])) == [busy["id"], closed["id"]]
        assert await listed(contact_id=str(contact["id"]), state="closed") == [closed["id"]]
        assert await listed(contact_id=str(new_id())) == []

    async def test_closing_it_is_said_once_however_often_it_is_done(self, service, tenant_id):
        conversation = await service.conversation(tenant_id)
        request = conversations_pb.CloseConversationRequest(conversation_id=str(conversation["id"]))
        closed = await service.agent(tenant_id).call(service.conversations.CloseConversation, request)
        assert (closed.id, closed.state) == (str(conversation["id"]), "closed")
        assert await service.agent(tenant_id).call(service.conversations.CloseConversation, request) == closed
        [(kind, data)] = await service.events(tenant_id)
        assert (kind, data) == ("messaging.conversation.updated", {"conversation": to_dict(closed)})

    @pytest.mark.parametrize(
        ("field", "fields"),
        [("state", {"state": "ajar"}), ("contactId", {"contact_id": "7"}), ("pageSize", {"page_size": -1})],
    )
    async def test_a_wrong_filter_is_named(self, service, tenant_id, field, fields):
        request = conversations_pb.ListConversationsRequest(**fields)
        error = await refusal(service.agent(tenant_id).call(service.conversations.ListConversations, request))
        assert error.reason == "INVALID_REQUEST"
        assert [violation.field for violation in error.violations] == [field]


class TestMessages:
    async def test_a_message_shows_its_file_and_reactions(self, service, tenant_id):
        media = await make_media(service.sql, tenant_id, direction="inbound")
        row = await make_message(service.sql, tenant_id, type="image", body="Look", media_id=media["id"])
        await insert(
            service.sql,
            "reactions",
            tenant_id=tenant_id,
            id=None,
            message_id=row["id"],
            direction="outbound",
            emoji="👍",
            reacted_at=moment(),
        )
        request = messages_pb.GetMessageRequest(message_id=str(row["id"]))
        message = await service.agent(tenant_id).call(service.messages.GetMessage, request)
        assert (message.status, message.wamid, message.direction) == ("received", row["wamid"], "inbound")
        assert (message.media.media_id, message.media.caption) == (str(media["id"]), "Look")
        assert [reaction.emoji for reaction in message.reactions] == ["👍"]

    async def test_an_unknown_one_is_not_found(self, service, tenant_id):
        request = messages_pb.GetMessageRequest(message_id=str(new_id()))
        error = await refusal(service.agent(tenant_id).call(service.messages.GetMessage, request))
        assert (error.code, error.reason) == (StatusCode.NOT_FOUND, "MESSAGE_NOT_FOUND")

    async def test_a_conversation_lists_its_own_newest_first(self, service, tenant_id):
        conversation = await make_conversation(service.sql, tenant_id)
        rows = [await make_message(service.sql, tenant_id, conversation=conversation) for _ in range(3)]
        await make_message(service.sql, tenant_id)
        request = messages_pb.ListMessagesRequest(conversation_id=str(conversation["id"]))
        answer = await service.agent(tenant_id).call(service.messages.ListMessages, request)
        assert [message.id for message in answer.messages] == [str(row["id"]) for row in reversed(rows)]

    async def test_a_conversation_without_messages_is_an_empty_page(self, service, tenant_id):
        conversation = await make_conversation(service.sql, tenant_id)
        request = messages_pb.ListMessagesRequest(conversation_id=str(conversation["id"]))
        answer = await service.agent(tenant_id).call(service.messages.ListMessages, request)
        assert answer == messages_pb.ListMessagesResponse()


class TestParkedEvents:
    @pytest.fixture
    def super_admin(self, service):
        return service.rpc.user(role="super_admin")

    async def test_they_show_what_came_and_why_it_waits(self, service, super_admin):
        reason = f"test_{uuid.uuid4().hex[:8].translate(str.maketrans('0123456789', 'ghijklmnop'))}"
        rows = [await make_parked_event(service.sql, reason=reason, body=f'{{"n": {n}}}') for n in range(3)]
        await make_parked_event(service.sql)
        request = parked_pb.ListParkedEventsRequest(reason=reason, page_size=2)
        first = await super_admin.call(service.parked_events.ListParkedEvents, request)
        request.page_token = first.next_page_token
        second = await super_admin.call(service.parked_events.ListParkedEvents, request)
        listed = [*first.parked_events, *second.parked_events]
        assert [event.id for event in listed] == [str(row["id"]) for row in reversed(rows)]
        assert [event.body for event in listed] == ['{"n": 2}', '{"n": 1}', '{"n": 0}']
        assert (len(first.parked_events), second.next_page_token) == (2, "")
        assert {(event.reason, event.state) for event in listed} == {(reason, "parked")}

    async def test_without_a_reason_all_are_listed(self, service, super_admin):
        row = await make_parked_event(service.sql)
        request = parked_pb.ListParkedEventsRequest(page_size=1)
        answer = await super_admin.call(service.parked_events.ListParkedEvents, request)
        assert [event.id for event in answer.parked_events] == [str(row["id"])]

    async def test_a_wrong_reason_is_named(self, service, super_admin):
        request = parked_pb.ListParkedEventsRequest(reason="Not A Word")
        error = await refusal(super_admin.call(service.parked_events.ListParkedEvents, request))
        assert [violation.field for violation in error.violations] == ["reason"]
