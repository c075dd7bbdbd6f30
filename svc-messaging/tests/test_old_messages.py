"""Messages go after their days with what hangs on them alone; nobody else's do, and nobody waits."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from aerostic.messaging.v1 import conversation_service_pb2 as conversations_pb
from aerostic.messaging.v1 import message_service_pb2 as messages_pb
from messaging_factories import insert, make_conversation, make_media, make_message, moment
from messaging_rpc import refusal, until, until_somebody_waits
from pydantic import ValidationError
from webhook_bodies import WORKER, Customer, Line, status, take_in

from kit.ids import first_id_at, new_id
from svc_messaging import sending
from svc_messaging.inbox import old_messages, store
from svc_messaging.inbox.janitor import Janitor
from svc_messaging.inbox.numbers import Owner
from svc_messaging.inbox.old_messages import OldMessages
from svc_messaging.settings import InboxSettings

DAYS = 30
TABLES = ("messages", "media", "media_chunks", "reactions", "wamids", "send_requests", "conversations", "contacts")


def over() -> datetime:
    return datetime.now(UTC) - timedelta(days=DAYS)


def old_id() -> uuid.UUID:
    """As if made a day before those that stay; no two are the same."""
    return uuid.UUID(int=first_id_at(over() - timedelta(days=1)).int | (uuid.uuid4().int >> 56))


async def make_old(sql, tenant_id, **columns):
    return await make_message(sql, tenant_id, id=old_id(), created_at=moment(-(DAYS + 1) * 24 * 3600), **columns)


async def sweep(old) -> dict[str, int]:
    """Until nothing is left to forget; gives the rows by table."""
    total: dict[str, int] = {}
    is_more = True
    while is_more:
        counts, is_more = await old.forget(over())
        total = {table: total.get(table, 0) + counts.get(table, 0) for table in {*total, *counts}}
    return total


async def counts_of(service, tenant_id) -> dict[str, int]:
    found = {table: await service.count(table, tenant_id) for table in TABLES}
    return {table: count for table, count in found.items() if count}


async def ids_left(sql, tenant_id) -> set[uuid.UUID]:
    return {row["id"] for row in await sql.fetch("SELECT id FROM messages WHERE tenant_id = $1", tenant_id)}


async def hang_on(sql, message) -> None:
    """A row in every table that may refer to a message."""
    row = {"tenant_id": message["tenant_id"], "id": None, "message_id": message["id"]}
    for wamid in (message["wamid"], f"{message['wamid']}-2"):
        await insert(sql, "wamids", **row, phone_number_id=message["phone_number_id"], wamid=wamid)
    await insert(sql, "reactions", **row, direction="inbound", emoji="👍", reacted_at=moment())
    if message["request_id"]:
        await insert(sql, "send_requests", **row, request_id=message["request_id"], fingerprint=b"1")


async def fill(sql, tenant_id, make) -> None:
    """A customer's photo and our answer in one conversation."""
    conversation = await make_conversation(sql, tenant_id)
    ours, theirs = await make_media(sql, tenant_id), await make_media(sql, tenant_id, direction="inbound")
    answer = {"direction": "outbound", "status": "read", "wamid": f"wamid.{uuid.uuid4().hex}", "accepted_at": moment()}
    for columns in (
        {"type": "image", "media_id": theirs["id"]},
        {"type": "image", "media_id": ours["id"], "request_id": "r-1", **answer},
    ):
        await hang_on(sql, await make(sql, tenant_id, conversation=conversation, **columns))


@pytest_asyncio.fixture
async def old(worker_db):
    """Nothing is left to forget of what tests before have made."""
    old = OldMessages(worker_db, WORKER)
    await sweep(old)
    return old


class TestWhatGoes:
    async def test_all_that_hangs_on_a_message_goes_with_it_and_nothing_of_another(self, old, service, sql, tenant_id):
        young = new_id()
        await fill(sql, tenant_id, make_old)
        await fill(sql, young, make_message)
        before = await counts_of(service, young)
        gone = {"messages": 2, "media": 2, "reactions": 2, "wamids": 4, "send_requests": 1}
        assert await sweep(old) == gone
        assert await counts_of(service, tenant_id) == {"conversations": 1, "contacts": 1}
        assert before == gone | {"media_chunks": 2, "conversations": 1, "contacts": 1}
        assert await counts_of(service, young) == before

    async def test_a_repetition_finds_nothing(self, old, sql, tenant_id):
        await fill(sql, tenant_id, make_old)
        await sweep(old)
        assert await old.forget(over()) == ({}, False)

    @pytest.mark.parametrize("word", ["queued", "sending"])
    async def test_what_waits_to_be_sent_stays_with_its_file(self, old, sql, tenant_id, word):
        file = await make_media(sql, tenant_id)
        waits = await make_old(
            sql, tenant_id, direction="outbound", type="image", status=word, media_id=file["id"], request_id="r-1"
        )
        done = await make_old(sql, tenant_id)
        assert await sweep(old) == {"messages": 1}
        assert await ids_left(sql, tenant_id) == {waits["id"]}
        assert await sql.fetchval("SELECT state FROM media WHERE id = $1", file["id"]) == "ready"
        await sql.execute("UPDATE messages SET status = 'failed', failed_at = now() WHERE id = $1", waits["id"])
        assert await sweep(old) == {"messages": 1, "media": 1}, done

    @pytest.mark.parametrize("word", ["unknown", "failed", "accepted", "sent", "read"])
    async def test_whatever_else_became_of_it_a_message_goes(self, old, sql, tenant_id, word):
        await make_old(sql, tenant_id, direction="outbound", status=word)
        assert await sweep(old) == {"messages": 1}

    async def test_a_file_stays_until_the_last_message_that_shows_it_goes(self, old, service, sql, tenant_id):
        file = await make_media(sql, tenant_id)
        shows = {"direction": "outbound", "type": "image", "status": "read", "media_id": file["id"]}
        for _ in range(2):
            await make_old(sql, tenant_id, **shows)
        young = await make_message(sql, tenant_id, **shows)
        assert await sweep(old) == {"messages": 2}
        answer = await service.agent(tenant_id).call(
            service.messages.GetMessage, messages_pb.GetMessageRequest(message_id=str(young["id"]))
        )
        assert answer.media.state == "ready"
        await sql.execute("UPDATE messages SET id = $2 WHERE id = $1", young["id"], old_id())
        assert await sweep(old) == {"messages": 1, "media": 1}
        assert await service.count("media_chunks", tenant_id) == 0

    async def test_the_same_file_id_of_another_workspace_is_not_touched(self, old, service, sql, tenant_id):
        other, media_id = new_id(), new_id()
        for each in (tenant_id, other):
            await make_media(sql, each, id=media_id)
        await make_old(sql, tenant_id, direction="outbound", type="image", status="read", media_id=media_id)
        assert await sweep(old) == {"messages": 1, "media": 1}
        assert await counts_of(service, other) == {"media": 1, "media_chunks": 1}


class TestWhatIsShown:
    async def conversation(self, service, tenant_id, conversation):
        named = {"conversation_id": str(conversation["id"])}
        agent = service.agent(tenant_id)
        found = await agent.call(
            service.conversations.GetConversation, conversations_pb.GetConversationRequest(**named)
        )
        listed = await agent.call(service.messages.ListMessages, messages_pb.ListMessagesRequest(**named))
        return found, [message.id for message in listed.messages]

    async def test_a_conversation_without_messages_shows_none_and_lives_on(self, old, service, sql, tenant_id):
        conversation = await service.conversation(tenant_id, unanswered_count=2)
        for _ in range(2):
            await make_old(sql, tenant_id, conversation=conversation)
        await sweep(old)
        found, listed = await self.conversation(service, tenant_id, conversation)
        assert (found.HasField("last_message"), found.unanswered_count, listed) == (False, 0, [])
        assert (found.state, found.contact.id) == ("open", str(conversation["contact_id"]))
        sent = await service.send(tenant_id, conversation)
        found, listed = await self.conversation(service, tenant_id, conversation)
        assert (found.last_message.id, listed) == (sent.id, [sent.id])

    async def test_one_with_newer_messages_is_as_it_was(self, old, service, sql, tenant_id):
        conversation = await service.conversation(tenant_id, unanswered_count=2)
        await make_old(sql, tenant_id, conversation=conversation)
        young = await make_message(sql, tenant_id, conversation=conversation)
        before, _ = await self.conversation(service, tenant_id, conversation)
        assert await sweep(old) == {"messages": 1}
        assert await self.conversation(service, tenant_id, conversation) == (before, [str(young["id"])])

    async def test_a_quote_still_names_the_message_which_is_not_found(self, old, service, sql, tenant_id):
        conversation = await service.conversation(tenant_id)
        quoted = await make_old(sql, tenant_id, conversation=conversation)
        names = {"reply_to_message_id": quoted["id"], "reply_to_wamid": quoted["wamid"]}
        quote = await make_message(sql, tenant_id, conversation=conversation, **names)
        await sweep(old)
        agent = service.agent(tenant_id)
        get = service.messages.GetMessage
        shown = await agent.call(get, messages_pb.GetMessageRequest(message_id=str(quote["id"])))
        assert (shown.reply_to_message_id, shown.reply_to_wamid) == (str(quoted["id"]), quoted["wamid"])
        error = await refusal(agent.call(get, messages_pb.GetMessageRequest(message_id=shown.reply_to_message_id)))
        assert error.reason == "MESSAGE_NOT_FOUND"
        error = await refusal(service.send(tenant_id, conversation, reply_to_message_id=str(quoted["id"])))
        assert error.reason == "MESSAGE_NOT_FOUND"

    async def test_what_customers_and_meta_say_about_it_later(self, old, service, worker_db, sql, tenant_id):
        conversation = await service.conversation(tenant_id)
        line = Line(conversation["phone_number_id"], Owner(tenant_id, conversation["whatsapp_account_id"]))
        gone = await make_old(
            sql, tenant_id, conversation=conversation, direction="outbound", status="sent", wamid="wamid.gone"
        )
        await hang_on(sql, gone)
        await sweep(old)
        ana = Customer()
        reaction = ana.writes("reaction", {"message_id": "wamid.gone", "emoji": "👍"})
        quote = ana.writes(context={"id": "wamid.gone"})
        assert await take_in(worker_db, line.written(ana, reaction, quote), lines=[line]) == []
        assert await service.count("reactions", tenant_id) == 0
        [stored] = await sql.fetch("SELECT * FROM messages WHERE tenant_id = $1 AND type = 'text'", tenant_id)
        assert (stored["reply_to_wamid"], stored["reply_to_message_id"]) == ("wamid.gone", None)
        read = line.body(statuses=[status("wamid.gone", "read", own=gone["id"])])
        assert await take_in(worker_db, read, lines=[line]) == ["unknown_message"]

    async def test_its_request_id_is_free_again(self, old, service, sql, tenant_id):
        conversation = await service.conversation(tenant_id)
        first = await service.send(tenant_id, conversation, request_id="r-1")
        moved = old_id()
        columns = {"messages": "id", "send_requests": "message_id", "conversations": "last_message_id"}
        for table, column in columns.items():
            await sql.execute(f"UPDATE {table} SET {column} = $2 WHERE {column} = $1", uuid.UUID(first.id), moved)
        await sql.execute("UPDATE messages SET status = 'sent', accepted_at = now() WHERE id = $1", moved)
        assert await sweep(old) == {"messages": 1, "send_requests": 1}
        second = await service.send(tenant_id, conversation, request_id="r-1")
        assert await ids_left(sql, tenant_id) == {uuid.UUID(second.id)}


class TestBatches:
    async def test_tenants_take_turns_and_each_gives_a_few(self, old, service, sql, monkeypatch):
        monkeypatch.setattr(old_messages, "TENANTS", 2)
        monkeypatch.setattr(old_messages, "ROWS", 2)
        tenants = sorted(new_id() for _ in range(5))
        for tenant_id, count in zip(tenants, (7, 1, 1, 1, 3), strict=True):
            conversation = await make_conversation(sql, tenant_id)
            for _ in range(count):
                await make_old(sql, tenant_id, conversation=conversation)
        left = []
        is_more = True
        while is_more:
            counts, is_more = await old.forget(over())
            assert counts.get("messages", 0) <= 4
            left.append([await service.count("messages", each) for each in tenants])
        first = [[5, 0, 1, 1, 3], [5, 0, 0, 0, 3], [5, 0, 0, 0, 1]]
        # The two that are left fill a batch, so that only the next one knows that they were all.
        second = [[3, 0, 0, 0, 0], [3, 0, 0, 0, 0]]
        assert left == [*first, *second, [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]]

    async def test_the_oldest_go_first(self, old, sql, tenant_id, monkeypatch):
        monkeypatch.setattr(old_messages, "ROWS", 2)
        rows = [await make_old(sql, tenant_id) for _ in range(5)]
        await old.forget(over())
        assert await ids_left(sql, tenant_id) == set(sorted(row["id"] for row in rows)[2:])

    async def test_few_files_go_at_once(self, old, service, sql, monkeypatch):
        monkeypatch.setattr(old_messages, "FILES", 2)
        tenants = sorted(new_id() for _ in range(3))
        for tenant_id in tenants:
            for _ in range(3):
                file = await make_media(sql, tenant_id, direction="inbound")
                await make_old(sql, tenant_id, type="image", media_id=file["id"])
        taken = [(await old.forget(over()))[0].get("media") for _ in range(3)]
        assert taken == [2, 2, 2]
        assert [await service.count("media", each) for each in tenants] == [1, 1, 1]
        assert (await sweep(old))["media"] == 3

    async def test_the_janitor_goes_on_until_nothing_is_left(self, old, database, worker_db, service, sql, tenant_id):
        conversation = await make_conversation(sql, tenant_id)
        await sql.execute(
            "INSERT INTO messages (tenant_id, id, conversation_id, contact_id, whatsapp_account_id, phone_number_id,"
            " direction, type, status) SELECT $1, ($2 || lpad(n::text, 12, '0'))::uuid, $3, $4, $4, '1', 'inbound',"
            " 'text', 'received' FROM generate_series(1, 350) n",
            *(tenant_id, str(old_id())[:24], conversation["id"], conversation["contact_id"]),
        )
        janitor = Janitor(worker_db, WORKER, keep_days={}, messages_keep_days=DAYS)
        stop = asyncio.Event()
        running = asyncio.create_task(janitor.run(database.worker_url, stop))

        async def is_empty():
            return not await service.count("messages", tenant_id)

        await until(is_empty)
        stop.set()
        await asyncio.wait_for(running, 30)


class TestBesideOthers:
    async def test_a_message_that_somebody_holds_is_passed_over(self, old, worker_db, sql, tenant_id):
        held, free = [await make_old(sql, tenant_id) for _ in range(2)]
        async with worker_db.begin(WORKER) as tx:
            await tx.fetch("SELECT FROM messages WHERE id = $1 FOR NO KEY UPDATE", held["id"])
            assert await old.forget(over()) == ({"messages": 1}, False)
        assert await ids_left(sql, tenant_id) == {held["id"]}, free
        assert await sweep(old) == {"messages": 1}

    async def test_it_gives_up_on_a_held_conversation_and_does_not_hold_up_others(self, old, worker_db, sql):
        mine, theirs = sorted((new_id(), new_id()))
        message = await make_old(sql, mine)
        await make_old(sql, theirs)
        old_messages_of_one = OldMessages(worker_db, WORKER)
        async with worker_db.begin(WORKER) as tx:
            await tx.fetch("SELECT FROM conversations WHERE id = $1 FOR UPDATE", message["conversation_id"])
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(old_messages, "TENANTS", 1)
                assert await old_messages_of_one.forget(over()) == ({}, True)
                assert await old_messages_of_one.forget(over()) == ({"messages": 1}, True)
            assert await ids_left(sql, theirs) == set()
            assert await ids_left(sql, mine) == {message["id"]}
        assert await sweep(old) == {"messages": 1}

    async def test_a_reaction_that_comes_as_its_message_goes_leaves_nothing(self, old, service, worker_db, sql):
        line, ana = Line(), Customer()
        tenant_id, wamid = line.tenant_id, f"wamid.{uuid.uuid4().hex}"
        message = await make_old(sql, tenant_id, wamid=wamid, phone_number_id=line.number)
        wamids = {"phone_number_id": line.number, "wamid": wamid, "message_id": message["id"]}
        await insert(sql, "wamids", tenant_id=tenant_id, id=None, **wamids)
        reaction = ana.writes("reaction", {"message_id": wamid, "emoji": "👍"})
        async with worker_db.begin(WORKER) as tx:
            found = await old_messages.find(tx, over(), after=old_messages.FIRST)
            await tx.execute(old_messages.HANGING["reactions"], [tenant_id], [message["id"]])
            taking_in = asyncio.create_task(take_in(worker_db, line.written(ana, reaction), lines=[line]))
            await until_somebody_waits(sql)
            await old_messages._delete(tx, found.rows)
        assert await taking_in == []
        assert await service.count("reactions", tenant_id) == 0

    async def test_a_message_that_is_reacted_to_at_that_moment_goes_later_with_the_reaction(
        self, old, service, worker_db, sql, tenant_id
    ):
        message = await make_old(sql, tenant_id)
        async with worker_db.begin(WORKER) as tx:
            await tx.execute(store._REACT, [tenant_id], [message["id"]], ["👍"], [moment()])
            assert await old.forget(over()) == ({}, False)
        assert await service.count("reactions", tenant_id) == 1
        assert await sweep(old) == {"messages": 1, "reactions": 1}

    async def test_a_file_that_is_being_sent_again_stays(self, old, service, sql, tenant_id):
        file = await make_media(sql, tenant_id)
        shows = {"direction": "outbound", "type": "image", "media_id": file["id"]}
        await make_old(sql, tenant_id, status="read", **shows)
        conversation = await make_conversation(sql, tenant_id)
        async with service.inside(tenant_id) as tx:
            await sending._require_image(tx, tenant_id, file["id"])
            assert await old.forget(over()) == ({}, False), "the file is held, so nothing has gone"
            content = sending.Content("image", media_id=file["id"])
            await sending._store(tx, conversation, sending.Draft("", content, new_id()), None)
        assert await sweep(old) == {"messages": 1}
        assert await sql.fetchval("SELECT state FROM media WHERE id = $1", file["id"]) == "ready"


async def test_zero_keeps_for_ever_and_too_few_days_are_refused(worker_db, sql, tenant_id, monkeypatch):
    message = await make_old(sql, tenant_id)
    assert await Janitor(worker_db, WORKER, keep_days={}, messages_keep_days=0).forget_messages() is False
    assert await ids_left(sql, tenant_id) == {message["id"]}
    monkeypatch.setenv("AEROSTIC_MESSAGING_MESSAGES_KEEP_DAYS", "29")
    with pytest.raises(ValidationError, match="must be 0 or at least 30"):
        InboxSettings()
