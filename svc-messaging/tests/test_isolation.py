"""Two workspaces side by side: by the database's own rules, and through every RPC as everybody who may not call it."""

import uuid

import asyncpg
import pytest
from aerostic.messaging.v1 import contact_service_pb2 as contacts_pb
from aerostic.messaging.v1 import conversation_service_pb2 as conversations_pb
from aerostic.messaging.v1 import dead_letter_service_pb2 as letters_pb
from aerostic.messaging.v1 import erasure_service_pb2 as erasure_pb
from aerostic.messaging.v1 import media_service_pb2 as media_pb
from aerostic.messaging.v1 import message_service_pb2 as messages_pb
from aerostic.messaging.v1 import parked_event_service_pb2 as parked_pb
from grpc import StatusCode
from messaging_factories import insert, make_contact, make_media, make_message, make_parked_event, moment
from messaging_rpc import TEMPLATE, refusal, some_phone

from kit.access import all_methods
from kit.ids import new_id
from kit.principal import Principal

# Tables with rows of workspaces, and what the server's role may do with its own.
TABLES = {
    "contacts": "SELECT INSERT UPDATE DELETE",
    "contact_identities": "SELECT INSERT DELETE",
    "contact_terms": "SELECT INSERT DELETE",
    "conversations": "SELECT INSERT UPDATE DELETE",
    "messages": "SELECT INSERT DELETE",
    "wamids": "SELECT DELETE",
    "send_requests": "SELECT INSERT DELETE",
    "reactions": "SELECT DELETE",
    "media": "SELECT INSERT UPDATE DELETE",
    "media_chunks": "SELECT INSERT DELETE",
    "placements": "SELECT DELETE",
}
OF_THE_INSTALLATION = {"parked_events"}
OF_NOBODY = {"outbox", "alembic_version", "schema_history", "erased_tenants", "erased_numbers"}


class Shop:
    """A workspace with a row in every table."""

    @classmethod
    async def open(cls, service):
        shop, sql = cls(), service.sql
        shop.tenant_id = tenant_id = new_id()
        shop.conversation = await service.conversation(tenant_id)
        shop.media = await make_media(sql, tenant_id, direction="inbound", state="failed")
        shop.message = await make_message(sql, tenant_id, conversation=shop.conversation)
        row = {"tenant_id": tenant_id, "id": None, "message_id": shop.message["id"]}
        await insert(sql, "wamids", **row, phone_number_id="1", wamid=shop.message["wamid"])
        await insert(sql, "reactions", **row, direction="inbound", emoji="👍", reacted_at=moment())
        await insert(sql, "send_requests", **row, request_id="r-1", fingerprint=b"1")
        await insert(sql, "placements", tenant_id=tenant_id, id=None, isolation="shared", settled_at=moment())
        return shop


@pytest.fixture
async def theirs(service):
    return await Shop.open(service)


@pytest.fixture
async def mine(service):
    return await Shop.open(service)


class TestRowLevelSecurity:
    async def test_every_table_is_either_protected_or_known_to_be_nobodys(self, sql):
        rows = await sql.fetch(
            "SELECT relname, relrowsecurity AND relforcerowsecurity AS protected FROM pg_class"
            " WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
        )
        assert {row["relname"] for row in rows if row["protected"]} == {*TABLES, *OF_THE_INSTALLATION}
        assert {row["relname"] for row in rows if not row["protected"]} == OF_NOBODY

    @pytest.mark.parametrize("table", TABLES)
    async def test_another_workspaces_rows_cannot_be_seen(self, service, theirs, mine, table):
        assert await service.count(table, theirs.tenant_id)
        async with service.inside(mine.tenant_id) as tx:
            assert await tx.fetch(f"SELECT 1 FROM {table} WHERE tenant_id = $1", theirs.tenant_id) == []
            assert {row["tenant_id"] for row in await tx.fetch(f"SELECT * FROM {table}")} == {mine.tenant_id}

    @pytest.mark.parametrize("table", TABLES)
    async def test_another_workspaces_rows_cannot_be_written(self, service, theirs, mine, table):
        row = await service.sql.fetchrow(f"SELECT * FROM {table} WHERE tenant_id = $1 LIMIT 1", theirs.tenant_id)
        places = ", ".join(f"${place}" for place in range(1, len(row) + 1))
        statement = f"INSERT INTO {table} ({', '.join(row.keys())}) SELECT {places}"
        may = "INSERT" in TABLES[table].split()
        with pytest.raises(
            asyncpg.InsufficientPrivilegeError, match="row-level security" if may else "permission denied"
        ):
            async with service.inside(mine.tenant_id) as tx:
                await tx.execute(statement, *row.values())

    @pytest.mark.parametrize("table", TABLES)
    async def test_another_workspaces_rows_cannot_be_changed_or_deleted(self, service, theirs, mine, table):
        for verb, statement in (
            ("UPDATE", f"UPDATE {table} SET tenant_id = tenant_id WHERE tenant_id = $1"),
            ("DELETE", f"DELETE FROM {table} WHERE tenant_id = $1"),
        ):
            if verb in TABLES[table].split():
                async with service.inside(mine.tenant_id) as tx:
                    assert await tx.execute(statement, theirs.tenant_id) == f"{verb} 0"
                assert await service.count(table, theirs.tenant_id) > 0
            else:
                with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
                    async with service.inside(mine.tenant_id) as tx:
                        await tx.execute(statement, theirs.tenant_id)

    @pytest.mark.parametrize("table", [name for name, may in TABLES.items() if "UPDATE" in may])
    async def test_rows_cannot_be_given_to_another_workspace(self, service, theirs, mine, table):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            async with service.inside(mine.tenant_id) as tx:
                await tx.execute(f"UPDATE {table} SET tenant_id = $1", theirs.tenant_id)

    @pytest.mark.parametrize("table", TABLES)
    async def test_without_a_workspace_nothing_can_be_read(self, service, database, theirs, table):
        connection = await asyncpg.connect(database.app_url)
        try:
            with pytest.raises(asyncpg.PostgresError):
                await connection.fetch(f"SELECT * FROM {table}")
        finally:
            await connection.close()
        with pytest.raises(asyncpg.PostgresError, match="invalid input syntax for type uuid"):
            async with service.db.begin(Principal.service("tests")) as tx:
                await tx.fetch(f"SELECT * FROM {table}")

    @pytest.mark.parametrize("table", [*TABLES, *OF_THE_INSTALLATION])
    async def test_the_owner_sees_nothing(self, database, theirs, sql, table):
        await make_parked_event(sql)
        connection = await asyncpg.connect(database.owner_url)
        try:
            assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 0
        finally:
            await connection.close()

    async def test_parked_events_are_hidden_from_every_workspace(self, service, mine):
        await make_parked_event(service.sql)
        async with service.inside(mine.tenant_id) as tx:
            assert await tx.fetchval("SELECT count(*) FROM parked_events") == 0
        async with service.db.begin(Principal.service("tests")) as tx:
            assert await tx.fetchval("SELECT count(*) FROM parked_events") > 0

    async def test_the_server_may_add_to_the_outbox_and_not_read_it(self, service, mine):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with service.inside(mine.tenant_id) as tx:
                await tx.fetch("SELECT * FROM outbox")


# Who may call what, written down a second time: a change of the contract must be meant.
PEOPLE, SUPER = {"admin", "agent"}, "super_admin"
SUPERS = {SUPER}
PROCESSES = {"svc-auth", "svc-tenants", "messaging-server", "messaging-inbox", "messaging-sender"}
CALLERS = {
    **dict.fromkeys(("ListContacts", "GetContact"), PEOPLE),
    **dict.fromkeys(("ListConversations", "GetConversation", "CloseConversation"), PEOPLE),
    **dict.fromkeys(("ListMessages", "GetMessage", "SendMessage", "StartConversation"), PEOPLE),
    **dict.fromkeys(("UploadMedia", "GetMedia", "DownloadMedia", "RetryMedia"), PEOPLE),
    **dict.fromkeys(("ListParkedEvents", "RetryParkedEvent", "RetryParkedEvents"), SUPERS),
    **dict.fromkeys(("ListDeadLetters", "RetryDeadLetter", "RetryDeadLetters"), SUPERS),
    "EraseTenantData": {"svc-tenants"},
}
SOME_ID = "0198c0de-0000-7000-8000-000000000000"
REQUESTS = {
    "ListContacts": contacts_pb.ListContactsRequest(),
    "GetContact": contacts_pb.GetContactRequest(contact_id=SOME_ID),
    "ListConversations": conversations_pb.ListConversationsRequest(),
    "GetConversation": conversations_pb.GetConversationRequest(conversation_id=SOME_ID),
    "CloseConversation": conversations_pb.CloseConversationRequest(conversation_id=SOME_ID),
    "ListMessages": messages_pb.ListMessagesRequest(conversation_id=SOME_ID),
    "GetMessage": messages_pb.GetMessageRequest(message_id=SOME_ID),
    "SendMessage": messages_pb.SendMessageRequest(conversation_id=SOME_ID, text={"body": "Hello"}),
    "StartConversation": messages_pb.StartConversationRequest(to="+16505551234", template=TEMPLATE),
    "UploadMedia": media_pb.UploadMediaRequest(description={"mime_type": "image/jpeg"}),
    "GetMedia": media_pb.GetMediaRequest(media_id=SOME_ID),
    "DownloadMedia": media_pb.DownloadMediaRequest(media_id=SOME_ID),
    "RetryMedia": media_pb.RetryMediaRequest(media_id=SOME_ID),
    "ListParkedEvents": parked_pb.ListParkedEventsRequest(),
    "RetryParkedEvent": parked_pb.RetryParkedEventRequest(parked_event_id=SOME_ID),
    "RetryParkedEvents": parked_pb.RetryParkedEventsRequest(reason="poison"),
    "ListDeadLetters": letters_pb.ListDeadLettersRequest(),
    "RetryDeadLetter": letters_pb.RetryDeadLetterRequest(dead_letter_id="1"),
    "RetryDeadLetters": letters_pb.RetryDeadLettersRequest(stream="META"),
    "EraseTenantData": erasure_pb.EraseTenantDataRequest(tenant_id=SOME_ID),
}


async def call(service, caller, name, request=None):
    """Call any method, whatever it streams."""
    stubs = (
        service.contacts,
        service.conversations,
        service.messages,
        service.media,
        service.parked_events,
        service.dead_letters,
        service.erasure,
    )
    [method] = [getattr(stub, name) for stub in stubs if hasattr(stub, name)]
    request = request or REQUESTS[name]
    if name == "UploadMedia":

        async def parts():
            yield request

        return await caller.upload(method, parts())
    if name == "DownloadMedia":
        return [answer async for answer in caller.stream(method, request)]
    return await caller.call(method, request)


def test_every_rpc_is_listed():
    names = {m.descriptor.name for m in all_methods() if m.full_name.startswith("aerostic.messaging.")}
    assert names == set(CALLERS) == set(REQUESTS)


@pytest.mark.parametrize("name", CALLERS)
async def test_nobody_else_may_call_it(service, mine, name):
    callers = {role: service.rpc.user(tenant_id=mine.tenant_id, role=role) for role in ("admin", "agent", "owner", "")}
    callers[SUPER] = service.rpc.user(role=SUPER)
    callers |= {process: service.rpc.service(process) for process in PROCESSES}
    for who in callers.keys() - CALLERS[name]:
        error = await refusal(call(service, callers[who], name))
        assert (error.code, error.reason) == (StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED"), who
    for token, reason in (("", "TOKEN_MISSING"), ("forged", "TOKEN_INVALID")):
        error = await refusal(call(service, service.rpc.bearer(token), name))
        assert (error.code, error.reason) == (StatusCode.UNAUTHENTICATED, reason)


@pytest.mark.parametrize("name", [name for name, callers in CALLERS.items() if callers == PEOPLE])
async def test_a_user_outside_any_workspace_is_told_so(service, name):
    error = await refusal(call(service, service.rpc.user(role="agent"), name))
    assert (error.code, error.reason) == (StatusCode.PERMISSION_DENIED, "TENANT_REQUIRED")


async def test_another_workspaces_resources_do_not_exist(service, theirs, mine):
    contact, conversation = str(theirs.conversation["contact_id"]), str(theirs.conversation["id"])
    message, media = str(theirs.message["id"]), str(theirs.media["id"])
    own = str(mine.conversation["id"])
    text = {"body": "Hello"}
    agent = service.agent(mine.tenant_id)
    tried = {
        "CONTACT_NOT_FOUND": [("GetContact", contacts_pb.GetContactRequest(contact_id=contact))],
        "CONVERSATION_NOT_FOUND": [
            ("GetConversation", conversations_pb.GetConversationRequest(conversation_id=conversation)),
            ("CloseConversation", conversations_pb.CloseConversationRequest(conversation_id=conversation)),
            ("ListMessages", messages_pb.ListMessagesRequest(conversation_id=conversation)),
            ("SendMessage", messages_pb.SendMessageRequest(conversation_id=conversation, text=text)),
        ],
        "MESSAGE_NOT_FOUND": [
            ("GetMessage", messages_pb.GetMessageRequest(message_id=message)),
            (
                "SendMessage",
                messages_pb.SendMessageRequest(conversation_id=own, text=text, reply_to_message_id=message),
            ),
        ],
        "MEDIA_NOT_FOUND": [
            ("GetMedia", media_pb.GetMediaRequest(media_id=media)),
            ("DownloadMedia", media_pb.DownloadMediaRequest(media_id=media)),
            ("RetryMedia", media_pb.RetryMediaRequest(media_id=media)),
            ("SendMessage", messages_pb.SendMessageRequest(conversation_id=own, image={"media_id": media})),
        ],
    }
    for reason, calls in tried.items():
        for name, request in calls:
            error = await refusal(call(service, agent, name, request))
            assert (error.code, error.reason) == (StatusCode.NOT_FOUND, reason), name
    state = await service.sql.fetchval("SELECT state FROM conversations WHERE id = $1", theirs.conversation["id"])
    failed = await service.sql.fetchval("SELECT state FROM media WHERE id = $1", theirs.media["id"])
    assert (state, failed) == ("open", "failed")
    assert await service.commands(theirs.tenant_id) == []


async def test_another_workspaces_number_is_not_connected(service, theirs, mine):
    request = messages_pb.StartConversationRequest(
        to=some_phone(), template=TEMPLATE, whatsapp_account_id=str(theirs.conversation["whatsapp_account_id"])
    )
    error = await refusal(call(service, service.agent(mine.tenant_id), "StartConversation", request))
    assert error.reason == "NUMBER_NOT_CONNECTED"


async def test_lists_hold_ones_own_only(service, theirs, mine):
    agent = service.agent(mine.tenant_id)
    contacts = (await call(service, agent, "ListContacts")).contacts
    conversations = (await call(service, agent, "ListConversations")).conversations
    assert [contact.id for contact in contacts] == [str(mine.conversation["contact_id"])]
    assert [conversation.id for conversation in conversations] == [str(mine.conversation["id"])]
    of_their_contact = conversations_pb.ListConversationsRequest(contact_id=str(theirs.conversation["contact_id"]))
    assert list((await call(service, agent, "ListConversations", of_their_contact)).conversations) == []


async def test_a_shared_phone_number_joins_no_workspaces(service, theirs, mine):
    phone = some_phone()
    contact = await make_contact(service.sql, theirs.tenant_id, phone=phone, wa_id=phone[1:], name="Their Ana")
    started = await service.start(mine.tenant_id, to=phone)
    assert uuid.UUID(started.contact_id) != contact["id"]
    [_, (_, data)] = await service.events(mine.tenant_id)
    assert "name" not in data["conversation"]["contact"]
