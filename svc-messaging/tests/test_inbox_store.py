"""What customers write becomes contacts, conversations and messages, once, however often and in whatever batches."""

import asyncio
import json
import time

import pytest
from messaging_factories import make_contact, make_conversation, make_message
from webhook_bodies import Customer, Line, digits, new_wamid, take_in

from kit import events
from svc_messaging.inbox.people import Contended


@pytest.fixture
def line() -> Line:
    return Line()


async def rows(sql, table, line, order="id"):
    return await sql.fetch(f"SELECT * FROM {table} WHERE tenant_id = $1 ORDER BY {order}", line.tenant_id)


async def events_of(sql, line):
    found = await sql.fetch(
        "SELECT headers, data FROM outbox WHERE subject LIKE '%' || $1 ORDER BY id", str(line.tenant_id)
    )
    told = [event for row in found for event in events.decode(json.loads(row["headers"]), row["data"])]
    return [(event.kind, event.data) for event in told]


async def test_a_first_message_makes_contact_conversation_and_events(worker_db, sql, line):
    ana = Customer(user_id="BR.10000000000000000001", username="@ana")
    assert await take_in(worker_db, line.written(ana), lines=[line]) == []

    (contact,) = await rows(sql, "contacts", line)
    assert (contact["name"], contact["username"], contact["phone"]) == ("Ana Souza", "@ana", f"+{ana.wa_id}")
    (conversation,) = await rows(sql, "conversations", line)
    (message,) = await rows(sql, "messages", line)
    assert conversation["contact_id"] == message["contact_id"] == contact["id"]
    assert (conversation["state"], conversation["unanswered_count"]) == ("open", 1)
    assert conversation["last_message_id"] == message["id"]
    assert (message["direction"], message["status"], message["body"]) == ("inbound", "received", "Is it in stock?")
    assert message["customer_sent_at"] == conversation["customer_wrote_at"]
    told = await events_of(sql, line)
    assert [kind for kind, _ in told] == [
        "messaging.message.received",
        "messaging.conversation.updated",
    ]
    assert told[0][1]["message"]["text"]["body"] == "Is it in stock?"
    assert told[1][1]["conversation"]["unansweredCount"] == 1


async def test_a_repeated_body_changes_nothing_and_tells_nobody(worker_db, sql, line):
    body = line.written(Customer())
    await take_in(worker_db, body, body, lines=[line])
    told = await events_of(sql, line)
    await take_in(worker_db, body, lines=[line])
    assert len(await rows(sql, "messages", line)) == 1
    assert (await rows(sql, "conversations", line))[0]["unanswered_count"] == 1
    assert await events_of(sql, line) == told


async def test_the_same_webhook_in_two_processes_at_once_is_stored_once(worker_db, sql, line):
    body = line.written(Customer())

    async def once():
        try:
            await take_in(worker_db, body, lines=[line])
        except Contended:
            await take_in(worker_db, body, lines=[line])

    await asyncio.gather(*(once() for _ in range(3)))
    assert len(await rows(sql, "messages", line)) == len(await rows(sql, "contacts", line)) == 1


async def test_messages_of_a_thread_keep_their_order_and_count(worker_db, sql, line):
    ana = Customer()
    texts = [ana.writes(content={"body": str(number)}) for number in range(5)]
    await take_in(worker_db, line.written(ana, *texts[:3]), line.written(ana, *texts[3:]), lines=[line])
    stored = await rows(sql, "messages", line)
    assert [row["body"] for row in stored] == ["0", "1", "2", "3", "4"]
    (conversation,) = await rows(sql, "conversations", line)
    assert conversation["unanswered_count"] == 5
    assert conversation["last_message_id"] == stored[-1]["id"]


async def test_each_number_of_a_workspace_has_its_own_conversation_with_one_contact(worker_db, sql, line):
    other = Line(owner=line.owner)
    ana = Customer()
    await take_in(worker_db, line.written(ana), other.written(ana), lines=[line, other])
    assert len(await rows(sql, "contacts", line)) == 1
    assert {row["phone_number_id"] for row in await rows(sql, "conversations", line)} == {line.number, other.number}


async def test_two_workspaces_know_one_customer_apart(worker_db, sql, line):
    other, ana = Line(), Customer()
    await take_in(worker_db, line.written(ana), other.written(ana), lines=[line, other])
    assert len(await rows(sql, "contacts", line)) == len(await rows(sql, "contacts", other)) == 1
    assert (await rows(sql, "contacts", line))[0]["id"] != (await rows(sql, "contacts", other))[0]["id"]


async def test_a_closed_conversation_stays_closed_and_a_new_one_opens(worker_db, sql, line):
    ana = Customer()
    await take_in(worker_db, line.written(ana), lines=[line])
    await sql.execute("UPDATE conversations SET state = 'closed' WHERE tenant_id = $1", line.tenant_id)
    await take_in(worker_db, line.written(ana), lines=[line])
    assert [row["state"] for row in await rows(sql, "conversations", line)] == ["closed", "open"]


async def test_a_customer_without_number_is_known_by_the_user_id(worker_db, sql, line):
    ana = Customer(wa_id="", user_id="US.13491208655302741918")
    await take_in(worker_db, line.written(ana), lines=[line])
    await take_in(worker_db, line.written(ana), lines=[line])
    (contact,) = await rows(sql, "contacts", line)
    assert (contact["user_id"], contact["phone"], contact["wa_id"]) == (ana.user_id, "", "")


async def test_a_contact_takes_the_name_that_it_has_now_and_keeps_it_when_none_is_shown(worker_db, sql, line):
    ana = Customer()
    await take_in(worker_db, line.written(ana), lines=[line])
    ana.name = "Ana S."
    await take_in(worker_db, line.written(ana), lines=[line])
    await take_in(worker_db, line.body(messages=[ana.writes()]), lines=[line])
    assert (await rows(sql, "contacts", line))[0]["name"] == "Ana S."


async def test_two_contacts_that_prove_to_be_one_person_become_the_older_one(worker_db, sql, line):
    hidden, shown = Customer(wa_id="", user_id="US.1"), Customer()
    await take_in(worker_db, line.written(hidden), lines=[line])
    await take_in(worker_db, line.written(shown), lines=[line])
    older, newer = await rows(sql, "contacts", line)
    both = Customer(wa_id=shown.wa_id, user_id="US.1")
    await take_in(worker_db, line.written(both), lines=[line])

    (contact,) = await rows(sql, "contacts", line)
    assert contact["id"] == older["id"] != newer["id"]
    assert (contact["user_id"], contact["wa_id"]) == ("US.1", shown.wa_id)
    assert {row["contact_id"] for row in await rows(sql, "messages", line)} == {older["id"]}
    conversations = await rows(sql, "conversations", line)
    assert sorted(row["state"] for row in conversations) == ["closed", "open"]
    assert sum(row["unanswered_count"] for row in conversations) == 3
    assert {row["contact_id"] for row in conversations} == {older["id"]}


async def test_who_changes_the_number_keeps_the_history_and_leaves_the_old_number(worker_db, sql, line):
    ana, after = Customer(), Customer()
    changed = ana.writes("system", {"body": "changed", "wa_id": after.wa_id, "type": "user_changed_number"})
    await take_in(worker_db, line.written(ana), line.body(messages=[changed]), line.written(after), lines=[line])
    (contact,) = await rows(sql, "contacts", line)
    assert contact["wa_id"] == after.wa_id
    (conversation,) = await rows(sql, "conversations", line)
    assert conversation["unanswered_count"] == 2, "what Meta tells is nothing to answer"

    stranger = Customer(wa_id=ana.wa_id, name="Stranger")
    await take_in(worker_db, line.written(stranger), lines=[line])
    assert len(await rows(sql, "contacts", line)) == 2


async def test_a_changed_user_id_leads_to_the_same_contact(worker_db, sql, line):
    ana, after = Customer(wa_id="", user_id="US.old"), Customer(wa_id="", user_id="US.new")
    content = {"body": "", "user_id": "US.new", "previous_user_id": "US.old", "type": "user_changed_user_id"}
    changed = Customer(wa_id="", user_id="").writes("system", content)
    await take_in(worker_db, line.written(ana), lines=[line])
    await take_in(worker_db, line.body(messages=[changed]), line.written(after), lines=[line])
    (contact,) = await rows(sql, "contacts", line)
    assert contact["user_id"] == "US.new"


async def test_a_customer_of_a_conversation_that_we_began_is_that_contact(worker_db, sql, line):
    ana = Customer()
    contact = await make_contact(sql, line.tenant_id, wa_id="", phone=f"+{ana.wa_id}", name="")
    await make_conversation(
        sql, line.tenant_id, contact_id=contact["id"], phone_number_id=line.number, customer_wrote_at=None
    )
    await take_in(worker_db, line.written(ana), lines=[line])
    (found,) = await rows(sql, "contacts", line)
    assert (found["id"], found["name"], found["wa_id"]) == (contact["id"], "Ana Souza", ana.wa_id)
    (conversation,) = await rows(sql, "conversations", line)
    assert conversation["customer_wrote_at"] is not None


async def test_an_image_is_expected_from_meta(worker_db, sql, line):
    ana = Customer()
    image = {"id": "media-1", "mime_type": "image/jpeg", "sha256": "x", "caption": "This one"}
    await take_in(worker_db, line.written(ana, ana.writes("image", image)), lines=[line])
    (message,), (media,) = await rows(sql, "messages", line), await rows(sql, "media", line)
    assert (message["type"], message["body"], message["media_id"]) == ("image", "This one", media["id"])
    assert (media["state"], media["meta_media_id"], media["message_id"]) == ("pending", "media-1", message["id"])
    assert media["next_attempt_at"] is not None


async def test_a_quote_names_the_quoted_message_where_it_is_known(worker_db, sql, line):
    ana = Customer()
    first = ana.writes()
    known = ana.writes(context={"id": first["id"], "from": "1"})
    unknown = ana.writes(context={"id": "wamid.elsewhere"})
    await take_in(worker_db, line.written(ana, first), line.written(ana, known, unknown), lines=[line])
    stored = await rows(sql, "messages", line)
    assert stored[1]["reply_to_message_id"] == stored[0]["id"]
    assert (stored[2]["reply_to_message_id"], stored[2]["reply_to_wamid"]) == (None, "wamid.elsewhere")


async def test_the_latest_reaction_by_the_customers_clock_stands_on_the_message(worker_db, sql, line):
    ana, now = Customer(), int(time.time())
    first = ana.writes()
    react = [
        ana.writes("reaction", {"message_id": first["id"], "emoji": emoji}, timestamp=str(now + age))
        for emoji, age in (("👍", -10), ("", -5), ("❤️", -20))
    ]
    await take_in(worker_db, line.written(ana, first), lines=[line])
    await take_in(worker_db, line.written(ana, react[0]), lines=[line])
    (reaction,) = await rows(sql, "reactions", line, order="message_id")
    assert reaction["emoji"] == "👍"
    assert (await rows(sql, "conversations", line))[0]["unanswered_count"] == 2, "a thumb can be the answer"
    await take_in(worker_db, line.written(ana, *react[1:]), lines=[line])
    (reaction,) = await rows(sql, "reactions", line, order="message_id")
    assert reaction["emoji"] == "", "taken back later than all others"
    told = [data["message"] for kind, data in await events_of(sql, line) if kind == "messaging.message.updated"]
    assert told[-1]["reactions"] == []


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("location", {"latitude": 1.5, "longitude": 2.5, "name": "Shop"}),
        ("contacts", [{"name": {"formatted_name": "B"}}]),
        ("interactive", {"type": "button_reply", "button_reply": {"id": "1", "title": "Yes"}}),
        ("hologram", {"depth": 3}),
        ("unsupported", {"type": "edit"}),
    ],
)
async def test_any_other_type_is_kept_as_meta_sent_it(worker_db, sql, line, kind, content):
    ana = Customer()
    await take_in(worker_db, line.written(ana, ana.writes(kind, content)), lines=[line])
    (message,) = await rows(sql, "messages", line)
    kept = json.loads(message["content"])
    assert (message["type"], kept if isinstance(content, dict) else kept[kind]) == (kind, content)


async def test_half_characters_and_nul_do_not_lose_the_message(worker_db, sql, line):
    ana = Customer()
    body = line.written(ana, ana.writes(content={"body": "A"})).replace(b'"A"', b'"x\\u0000y\\ud83dz"')
    assert await take_in(worker_db, body, lines=[line]) == []
    assert (await rows(sql, "messages", line))[0]["body"] == "x\ufffdy?z"


async def test_an_unknown_number_is_parked_and_its_neighbours_are_stored(worker_db, sql, line):
    foreign, ana = Line(), Customer()
    reasons = await take_in(worker_db, foreign.written(ana), line.written(ana), lines=[line])
    assert reasons == ["unknown_number"]
    assert len(await rows(sql, "messages", line)) == 1
    parked = await sql.fetchrow("SELECT * FROM parked_events WHERE phone_number_id = $1", foreign.number)
    assert parked["reason"] == "unknown_number"
    assert json.loads(parked["body"])["value"]["messages"][0]["text"]["body"] == "Is it in stock?"
    assert await take_in(worker_db, foreign.written(ana), foreign.body(messages=[]), lines=[]) != []


@pytest.mark.parametrize(
    "body",
    [b"", b"not json", b"[]", b'{"entry": 5}', b"\xff\xfe", b'{"entry":' + b"[" * 5000 + b"]" * 5000 + b"}"],
)
async def test_a_body_that_makes_no_sense_is_parked_once(worker_db, sql, line, body):
    await take_in(worker_db, body, lines=[line])
    assert await take_in(worker_db, body, lines=[line]) == []


@pytest.mark.parametrize(
    "broken",
    [
        {"messages": [5]},
        {"messages": [{"type": "text"}]},
        {"messages": [{"id": "w", "type": "text", "text": {"body": "x"}}]},
        {"statuses": [{"id": "w", "status": "thinking"}]},
        {"statuses": [{"status": "sent"}]},
    ],
)
async def test_a_malformed_item_is_parked_and_its_neighbours_are_stored(worker_db, sql, line, broken):
    ana = Customer()
    unique = json.loads(json.dumps(broken).replace('"w"', f'"{new_wamid()}"'))
    good = {"messages": [ana.writes()], "statuses": []}
    body = line.body(**{name: [*good[name], *unique.get(name, [])] for name in good})
    assert len(await take_in(worker_db, body, lines=[line])) == 1
    assert len(await rows(sql, "messages", line)) == 1


async def test_a_quoted_message_of_another_workspace_is_not_found(worker_db, sql, line):
    other = Line()
    message = await make_message(sql, other.tenant_id)
    ana = Customer(wa_id=digits())
    await take_in(worker_db, line.written(ana, ana.writes(context={"id": message["wamid"]})), lines=[line])
    assert (await rows(sql, "messages", line))[0]["reply_to_message_id"] is None
