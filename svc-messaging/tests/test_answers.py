"""What the server prints itself for the gateway says the same as its messages."""

import json

import pytest
from aerostic.messaging.v1 import contact_service_pb2 as contacts_pb
from aerostic.messaging.v1 import conversation_service_pb2 as conversations_pb
from aerostic.messaging.v1 import message_service_pb2 as messages_pb
from messaging_factories import make_contact, make_conversation, make_message, moment
from messaging_rpc import to_send

from kit import answers
from kit.proto_json import to_dict

PREFIX = "/aerostic.messaging.v1."


async def both(service, tenant_id, path, request, answer):
    """The answer as JSON, once proved to be that of its message."""
    message = await ask(service, tenant_id, path, request, answer, form="")
    printed = await ask(service, tenant_id, path, request, answer, form=answers.JSON)
    assert isinstance(printed, bytes)
    assert json.loads(printed) == to_dict(message)
    return json.loads(printed)


async def ask(service, tenant_id, path, request, answer, *, form):
    def read(raw):
        return answers.parsed(raw, answer.FromString)

    call = service.rpc.stub(
        lambda channel: channel.unary_unary(
            PREFIX + path, request_serializer=type(request).SerializeToString, response_deserializer=read
        )
    )
    token = service.agent(tenant_id).token
    return await service.rpc.channel.call(call, request, timeout=30, token=token, extra={answers.HEADER: form})


@pytest.fixture
async def busy(service, tenant_id):
    """A conversation with a message that has a reaction and an answer that failed, beside others."""
    for _ in range(2):
        await make_message(service.sql, tenant_id)
    conversation = await make_conversation(service.sql, tenant_id, unanswered_count=1)
    asked = await make_message(service.sql, tenant_id, conversation=conversation, body="Hello?")
    await service.sql.execute(
        "INSERT INTO reactions (tenant_id, message_id, direction, emoji, reacted_at)"
        " VALUES ($1, $2, 'outbound', '👍', $3)",
        *(tenant_id, asked["id"], moment()),
    )
    failure = json.dumps({"reason": "META_REFUSED", "metaCode": 131047, "detail": "Too late", "advice": "Wait."})
    await make_message(
        service.sql,
        tenant_id,
        conversation=conversation,
        direction="outbound",
        status="failed",
        failure=failure,
        failed_at=moment(),
    )
    return conversation


async def test_lists_and_their_tokens(service, tenant_id, busy):
    page = conversations_pb.ListConversationsRequest(page_size=2)
    answer = conversations_pb.ListConversationsResponse
    first = await both(service, tenant_id, "ConversationService/ListConversations", page, answer)
    assert len(first["conversations"]) == 2
    page.page_token = first["nextPageToken"]
    last = await both(service, tenant_id, "ConversationService/ListConversations", page, answer)
    assert "nextPageToken" not in last

    request = messages_pb.ListMessagesRequest(conversation_id=str(busy["id"]))
    listed = await both(service, tenant_id, "MessageService/ListMessages", request, messages_pb.ListMessagesResponse)
    assert [message["status"] for message in listed["messages"]] == ["failed", "received"]

    contacts = contacts_pb.ListContactsRequest()
    listed = await both(service, tenant_id, "ContactService/ListContacts", contacts, contacts_pb.ListContactsResponse)
    assert len(listed["contacts"]) == 3


async def test_empty_lists(service, tenant_id):
    page = conversations_pb.ListConversationsRequest()
    answer = conversations_pb.ListConversationsResponse
    empty = await both(service, tenant_id, "ConversationService/ListConversations", page, answer)
    assert empty == {"conversations": []}


async def test_single_resources(service, tenant_id, busy):
    conversation = conversations_pb.GetConversationRequest(conversation_id=str(busy["id"]))
    answer = type(await service.agent(tenant_id).call(service.conversations.GetConversation, conversation))
    found = await both(service, tenant_id, "ConversationService/GetConversation", conversation, answer)
    message = messages_pb.GetMessageRequest(message_id=found["lastMessage"]["id"])
    answer = type(await service.agent(tenant_id).call(service.messages.GetMessage, message))
    assert await both(service, tenant_id, "MessageService/GetMessage", message, answer) == found["lastMessage"]
    contact = await make_contact(service.sql, tenant_id, username="@ana")
    request = contacts_pb.GetContactRequest(contact_id=str(contact["id"]))
    answer = type(await service.agent(tenant_id).call(service.contacts.GetContact, request))
    assert (await both(service, tenant_id, "ContactService/GetContact", request, answer))["username"] == "@ana"


async def test_a_message_that_was_sent(service, tenant_id):
    conversation = await service.conversation(tenant_id)
    request = to_send(conversation, request_id="twice-the-same")
    answer = type(await service.agent(tenant_id).call(service.messages.SendMessage, request))
    assert (await both(service, tenant_id, "MessageService/SendMessage", request, answer))["status"] == "queued"
