"""Pages of every list, both ways: nothing is lost or doubled, whatever the page size and whatever comes in between."""

import uuid
from dataclasses import dataclass
from typing import Any

import pytest
from aerostic.messaging.v1 import contact_service_pb2 as contacts_pb
from aerostic.messaging.v1 import conversation_service_pb2 as conversations_pb
from aerostic.messaging.v1 import message_service_pb2 as messages_pb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from messaging_factories import make_contact, make_conversation, make_message, moment
from messaging_rpc import refusal

from kit.ids import new_id

FEW = settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
LISTS = ["contacts", "conversations", "messages"]


@dataclass
class List:
    """One of the lists of a fresh workspace, and how something comes to stand before all others in it."""

    service: Any
    name: str
    tenant_id: uuid.UUID
    conversation: Any

    @classmethod
    async def create(cls, service, name):
        tenant_id = new_id()
        conversation = await make_conversation(service.sql, tenant_id) if name == "messages" else None
        return cls(service, name, tenant_id, conversation)

    async def add(self):
        sql, tenant_id = self.service.sql, self.tenant_id
        match self.name:
            case "contacts":
                row = await make_contact(sql, tenant_id)
            case "conversations":
                row = await make_conversation(sql, tenant_id, last_activity_at=moment())
            case _:
                row = await make_message(sql, tenant_id, conversation=self.conversation)
        return str(row["id"])

    async def page(self, size, token="", **fields):
        """Ids of a page, the token onward and the token back."""
        method, request = {
            "contacts": (self.service.contacts.ListContacts, contacts_pb.ListContactsRequest),
            "conversations": (self.service.conversations.ListConversations, conversations_pb.ListConversationsRequest),
            "messages": (self.service.messages.ListMessages, messages_pb.ListMessagesRequest),
        }[self.name]
        if self.conversation:
            fields.setdefault("conversation_id", str(self.conversation["id"]))
        agent = self.service.agent(self.tenant_id)
        answer = await agent.call(method, request(page_size=size, page_token=token, **fields))
        return [each.id for each in getattr(answer, self.name)], answer.next_page_token, answer.previous_page_token


async def walk_on(found, size, arriving):
    """All pages onward, while so many new items arrive; and the token that leads back from the last one."""
    pages, token = [], ""
    while True:
        ids, token, back = await found.page(size, token)
        pages.append(ids)
        if arriving:
            arriving -= 1
            await found.add()
        if not token:
            return pages, back


async def walk_back(found, size, token):
    """All pages back from a token, in the list's order; and the token that leads to what comes later."""
    ids = []
    while True:
        page, _, back = await found.page(size, token)
        if not page:
            return ids, token
        ids, token = [*page, *ids], back


@pytest.mark.parametrize("name", LISTS)
@FEW
@given(count=st.integers(0, 9), size=st.integers(1, 10), arriving=st.integers(0, 3), back_size=st.integers(1, 10))
async def test_every_item_is_met_once_in_each_direction(service, name, count, size, arriving, back_size):
    found = await List.create(service, name)
    ids = [await found.add() for _ in range(count)][::-1]
    pages, back = await walk_on(found, size, arriving)
    assert [each for page in pages for each in page] == ids
    assert all(len(page) == size for page in pages[:-1])
    if not ids:
        return
    # Back from the last page: everything that stands before it, and what has come meanwhile.
    everything, _, _ = await found.page(100)
    before, later = await walk_back(found, back_size, back)
    assert [*before, *pages[-1]] == everything
    new = await found.add()
    assert (await found.page(back_size, later))[0] == [new]


@pytest.mark.parametrize("name", LISTS)
async def test_going_back_and_on_again_gives_the_same_page(service, name):
    found = await List.create(service, name)
    ids = [await found.add() for _ in range(7)][::-1]
    first, on, _ = await found.page(3)
    second, _, back = await found.page(3, on)
    assert (first, second) == (ids[:3], ids[3:6])
    returned, on_again, _ = await found.page(3, back)
    assert returned == first
    assert (await found.page(3, on_again))[0] == second


@pytest.mark.parametrize("name", LISTS)
async def test_an_empty_page_has_no_tokens(service, name):
    found = await List.create(service, name)
    assert await found.page(5) == ([], "", "")
    await found.add()
    _, on, back = await found.page(5)
    assert on == ""
    assert await found.page(5, back) == ([], "", "")


@pytest.mark.parametrize("name", LISTS)
async def test_fifty_are_given_unless_asked_and_two_hundred_at_most(service, name):
    found = await List.create(service, name)
    for _ in range(201):
        await found.add()
    assert len((await found.page(0))[0]) == 50
    ids, on, _ = await found.page(1000)
    assert len(ids) == 200
    assert len((await found.page(1000, on))[0]) == 1


async def test_a_conversation_that_becomes_active_moves_to_the_front_and_is_met_there(service):
    found = await List.create(service, "conversations")
    ids = [await found.add() for _ in range(4)][::-1]
    first, on, back = await found.page(2)
    move = "UPDATE conversations SET last_activity_at = $2 WHERE id = $1"
    await service.sql.execute(move, uuid.UUID(ids[3]), moment(1))
    assert (await found.page(5, on))[0] == [ids[2]]
    assert (await found.page(5, back))[0] == [ids[3]]
    assert first == ids[:2]


@pytest.mark.parametrize("name", LISTS)
async def test_tokens_of_another_list_workspace_or_filter_and_forged_ones_are_refused(service, name):
    found, other = [await List.create(service, name) for _ in range(2)]
    for each in (found, other):
        for _ in range(2):
            await each.add()
    _, token, _ = await found.page(1)
    elsewhere = await List.create(service, LISTS[LISTS.index(name) - 1])
    calls = [other.page(1, token), elsewhere.page(1, token), found.page(1, token[:-4]), found.page(1, "forged")]
    if name == "conversations":
        calls.append(found.page(1, token, state="open"))
    if name == "messages":
        another = await make_conversation(service.sql, found.tenant_id)
        calls.append(found.page(1, token, conversation_id=str(another["id"])))
    for call in calls:
        assert (await refusal(call)).reason == "PAGE_TOKEN_INVALID"
