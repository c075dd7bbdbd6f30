"""StartConversation: whom a template reaches, from which number, and everything that is refused."""

import asyncio
import uuid
from datetime import timedelta

import pytest
from aerostic.messaging.v1 import contact_service_pb2 as contacts_pb
from grpc import StatusCode
from messaging_factories import insert, make_contact, make_conversation, moment
from messaging_rpc import TEMPLATE, refusal, serving, some_phone, until

from kit.ids import new_id
from kit.proto_json import to_dict


async def nothing_started(service, tenant_id):
    for table in ("contacts", "contact_identities", "conversations", "messages", "send_requests"):
        assert await service.count(table, tenant_id) == 0, table
    assert await service.commands(tenant_id) == []
    assert await service.events(tenant_id) == []


class TestWhom:
    async def test_a_new_number_becomes_a_contact_with_an_open_conversation(self, service, tenant_id):
        account_id, number = service.number(tenant_id)
        phone = some_phone()
        message = await service.start(tenant_id, to=phone, request_id="r-1")
        assert (message.type, message.status, message.request_id) == ("template", "queued", "r-1")
        assert message.whatsapp_account_id == str(account_id)
        request = contacts_pb.GetContactRequest(contact_id=message.contact_id)
        contact = await service.agent(tenant_id).call(service.contacts.GetContact, request)
        assert (contact.phone, contact.wa_id, contact.name) == (phone, "", "")
        [command] = await service.commands(tenant_id)
        assert (command["messageId"], command["phoneNumberId"]) == (message.id, number)
        (queued, data), (updated, conversation) = await service.events(tenant_id)
        assert (queued, updated) == ("messaging.message.queued", "messaging.conversation.updated")
        assert data == {"message": to_dict(message)}
        assert conversation["conversation"]["state"] == "open"
        assert "windowExpireTime" not in conversation["conversation"]

    @pytest.mark.parametrize("kind", ["phone", "wa_id"])
    async def test_a_known_number_reaches_its_contact(self, service, tenant_id, kind):
        service.number(tenant_id)
        phone = some_phone()
        known = {"phone": phone, "wa_id": ""} if kind == "phone" else {"phone": "", "wa_id": phone[1:]}
        contact = await make_contact(service.sql, tenant_id, **known)
        assert (await service.start(tenant_id, to=phone)).contact_id == str(contact["id"])
        assert await service.count("contacts", tenant_id) == 1

    async def test_of_two_contacts_the_one_with_the_phone_number_is_meant(self, service, tenant_id):
        service.number(tenant_id)
        phone = some_phone()
        await make_contact(service.sql, tenant_id, phone="", wa_id=phone[1:])
        contact = await make_contact(service.sql, tenant_id, phone=phone, wa_id="")
        assert (await service.start(tenant_id, to=phone)).contact_id == str(contact["id"])

    async def test_a_customer_of_another_workspace_is_a_new_contact_here(self, service, tenant_id):
        service.number(tenant_id)
        theirs = await make_contact(service.sql, new_id())
        message = await service.start(tenant_id, to=theirs["phone"])
        assert message.contact_id != str(theirs["id"])

    async def test_starting_twice_at_once_makes_one_contact_and_one_conversation(self, service, tenant_id):
        service.number(tenant_id)
        phone = some_phone()
        started = await asyncio.gather(*(service.start(tenant_id, to=phone) for _ in range(6)))
        assert len({message.contact_id for message in started}) == 1
        assert len({message.conversation_id for message in started}) == 1
        assert len(await service.commands(tenant_id)) == 6
        assert await service.count("contacts", tenant_id) == 1

    async def test_a_contact_who_appears_at_the_same_moment_is_found(self, service, database, tenant_id):
        """A customer writes for the first time while somebody starts a conversation with him."""
        import asyncpg

        service.number(tenant_id)
        phone = some_phone()
        inbox = await asyncpg.connect(database.superuser_url)
        try:
            writing = inbox.transaction()
            await writing.start()
            contact = await make_contact(inbox, tenant_id, phone=phone, wa_id=phone[1:])
            starting = asyncio.create_task(service.start(tenant_id, to=phone))
            waiting = (
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            await until(lambda: service.sql.fetchval(waiting))
            await writing.commit()
            assert (await starting).contact_id == str(contact["id"])
        finally:
            await inbox.close()
        assert await service.count("contacts", tenant_id) == 1


class TestConversation:
    async def test_the_open_one_goes_on(self, service, tenant_id):
        contact = await make_contact(service.sql, tenant_id)
        conversation = await service.conversation(tenant_id, contact_id=contact["id"], customer_wrote_at=None)
        message = await service.start(tenant_id, to=contact["phone"])
        assert message.conversation_id == str(conversation["id"])

    async def test_after_a_closed_one_a_new_one_takes_over_its_window(self, service, tenant_id):
        contact = await make_contact(service.sql, tenant_id)
        wrote_at = moment(-3600)
        closed = await service.conversation(
            tenant_id, contact_id=contact["id"], state="closed", customer_wrote_at=wrote_at
        )
        elsewhere = await make_conversation(
            service.sql, tenant_id, contact_id=contact["id"], customer_wrote_at=moment()
        )
        message = await service.start(tenant_id, to=contact["phone"])
        assert message.conversation_id not in {str(closed["id"]), str(elsewhere["id"])}
        row = await service.sql.fetchrow(
            "SELECT * FROM conversations WHERE id = $1", uuid.UUID(message.conversation_id)
        )
        assert row["customer_wrote_at"] == wrote_at
        answer = await service.send(tenant_id, row)
        assert answer.conversation_id == message.conversation_id

    async def test_numbers_have_conversations_of_their_own(self, service, tenant_id):
        accounts, phone = [service.number(tenant_id)[0] for _ in range(2)], some_phone()
        started = [await service.start(tenant_id, to=phone, whatsapp_account_id=str(each)) for each in accounts]
        assert [message.whatsapp_account_id for message in started] == [str(each) for each in accounts]
        assert len({message.conversation_id for message in started}) == 2
        assert len({message.contact_id for message in started}) == 1


class TestRepeated:
    async def test_the_same_request_starts_nothing_more(self, service, tenant_id):
        service.number(tenant_id)
        phone = some_phone()
        first = await service.start(tenant_id, to=phone, request_id="r-1")
        await service.sql.execute("UPDATE conversations SET state = 'closed' WHERE tenant_id = $1", tenant_id)
        assert await service.start(tenant_id, to=phone, request_id="r-1") == first
        assert await service.count("conversations", tenant_id) == 1
        assert len(await service.commands(tenant_id)) == 1

    async def test_at_the_same_moment_they_are_one_message(self, service, tenant_id):
        service.number(tenant_id)
        phone = some_phone()
        calls = (service.start(tenant_id, to=phone, request_id="twice") for _ in range(6))
        answers = await asyncio.gather(*calls)
        assert all(answer == answers[0] for answer in answers)
        assert len(await service.commands(tenant_id)) == 1

    async def test_another_addressee_template_or_call_is_refused(self, service, tenant_id):
        account_id, _ = service.number(tenant_id)
        phone = some_phone()
        started = await service.start(tenant_id, to=phone, request_id="r-1")
        others = (
            service.start(tenant_id, to=some_phone(), request_id="r-1"),
            service.start(tenant_id, to=phone, template={**TEMPLATE, "language": "de"}, request_id="r-1"),
            service.start(tenant_id, to=phone, whatsapp_account_id=str(account_id), request_id="r-1"),
            service.send(tenant_id, started.conversation_id, template=TEMPLATE, request_id="r-1"),
        )
        for call in others:
            error = await refusal(call)
            assert (error.code, error.reason) == (StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
        assert await service.count("contacts", tenant_id) == 1


class TestRefused:
    @pytest.mark.parametrize("count", [0, 2])
    async def test_without_a_name_there_must_be_exactly_one_number(self, service, tenant_id, count):
        service.tenants.numbers[str(tenant_id)] = {}
        for _ in range(count):
            service.number(tenant_id)
        error = await refusal(service.start(tenant_id, request_id="r-1"))
        assert (error.code, error.reason) == (StatusCode.FAILED_PRECONDITION, "NUMBER_NOT_CONNECTED")
        await nothing_started(service, tenant_id)

    async def test_a_number_that_is_not_the_workspaces(self, service, tenant_id):
        service.number(tenant_id)
        theirs, _ = service.number(new_id())
        for account_id in (theirs, new_id()):
            error = await refusal(service.start(tenant_id, whatsapp_account_id=str(account_id)))
            assert (error.code, error.reason) == (StatusCode.FAILED_PRECONDITION, "NUMBER_NOT_CONNECTED")
        await nothing_started(service, tenant_id)

    async def test_a_suspended_workspace(self, service, tenant_id):
        service.number(tenant_id)
        service.tenants.suspended.add(str(tenant_id))
        error = await refusal(service.start(tenant_id))
        assert (error.code, error.reason) == (StatusCode.PERMISSION_DENIED, "TENANT_SUSPENDED")
        await nothing_started(service, tenant_id)

    async def test_a_full_queue_leaves_no_contact_behind(self, app_db, sql, server_bus, tenant_id):
        async with serving(app_db, sql, server_bus, number_max=1) as service:
            service.number(tenant_id)
            await service.start(tenant_id)
            error = await refusal(service.start(tenant_id, request_id="r-2"))
            assert (error.code, error.reason) == (StatusCode.RESOURCE_EXHAUSTED, "SEND_QUEUE_FULL")
            for table in ("contacts", "contact_identities", "conversations", "messages"):
                assert await service.count(table, tenant_id) == 1, table
            assert await service.count("send_requests", tenant_id) == 0

    @pytest.mark.parametrize(
        ("field", "fields"),
        [
            ("to", {"to": "16505551234"}),
            ("to", {"to": "+0650555123"}),
            ("to", {"to": "+1650"}),
            ("to", {"to": "+1650555123412345"}),
            ("whatsappAccountId", {"whatsapp_account_id": "7"}),
            ("template", {"template": None}),
            ("template.name", {"template": {**TEMPLATE, "name": ""}}),
            ("template.language", {"template": {**TEMPLATE, "language": ""}}),
            ("requestId", {"request_id": "x" * 65}),
        ],
    )
    async def test_a_wrong_field_is_named(self, service, tenant_id, field, fields):
        service.number(tenant_id)
        error = await refusal(service.start(tenant_id, **fields))
        assert (error.code, error.reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
        assert {violation.field for violation in error.violations} == {field}
        await nothing_started(service, tenant_id)


async def test_the_window_of_a_started_conversation_is_closed_until_the_customer_writes(service, tenant_id):
    service.number(tenant_id)
    started = await service.start(tenant_id)
    error = await refusal(service.send(tenant_id, started.conversation_id))
    assert (error.reason, error.metadata) == ("WINDOW_CLOSED", {})
    wrote = "UPDATE conversations SET customer_wrote_at = now() - $2::interval WHERE id = $1"
    await service.sql.execute(wrote, uuid.UUID(started.conversation_id), timedelta(hours=23))
    assert (await service.send(tenant_id, started.conversation_id)).status == "queued"


async def test_an_identity_that_leads_to_several_numbers_of_a_contact_is_found_by_each(service, tenant_id):
    service.number(tenant_id)
    contact = await make_contact(service.sql, tenant_id)
    second = some_phone()
    await insert(
        service.sql,
        "contact_identities",
        tenant_id=tenant_id,
        id=None,
        kind="phone",
        value=second,
        contact_id=contact["id"],
    )
    first, other = [await service.start(tenant_id, to=phone) for phone in (contact["phone"], second)]
    assert first.conversation_id == other.conversation_id
