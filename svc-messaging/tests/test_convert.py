"""Protos and JSON of the same row say the same, and say it as REST does."""

import json
import uuid
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from messaging_factories import insert, make_contact, make_conversation, make_media, make_message, moment

from kit.ids import new_id
from kit.proto_json import to_dict
from svc_messaging import convert, events, snapshots
from svc_messaging.events import leaving, of_messages

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
NO_SNAPSHOT = {
    **dict.fromkeys(("media_id", "media_mime_type", "media_filename", "media_state", "media_failure")),
    **dict.fromkeys(("media_size_bytes", "inbound_emoji", "inbound_reacted_at")),
    **dict.fromkeys(("outbound_emoji", "outbound_reacted_at")),
}


def message_row(**columns):
    """A row of snapshots.MESSAGES without a database."""
    return {
        "tenant_id": new_id(),
        **{column: new_id() for column in ("id", "conversation_id", "contact_id", "whatsapp_account_id")},
        "direction": "outbound",
        "type": "text",
        "body": "",
        "content": None,
        "status": "queued",
        **{f"{step}_at": None for step in ("accepted", "sent", "delivered", "read", "played", "failed")},
        "failure": None,
        "next_attempt_at": None,
        "wamid": None,
        "reply_to_wamid": None,
        "reply_to_message_id": None,
        "sender_user_id": None,
        "request_id": "",
        "customer_sent_at": None,
        "created_at": NOW,
        **NO_SNAPSHOT,
        **columns,
    }


def both(row):
    """The JSON of a message, once proved to be that of its proto."""
    printed = as_sent(convert.message_json(row))
    assert printed == to_dict(convert.message_proto(row))
    return printed


def as_sent(data):
    """What readers find in the JSON."""
    return json.loads(msgspec.json.encode(data))


times = st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


@given(
    st.builds(
        message_row,
        direction=st.sampled_from(["inbound", "outbound"]),
        type=st.sampled_from(["text", "image", "location", "contacts", "unsupported", "something_new"]),
        body=words,
        content=st.none() | st.dictionaries(words, json_values, max_size=3).map(json.dumps),
        status=st.sampled_from(["queued", "sending", "unknown", "accepted", "failed", "read"]),
        accepted_at=st.none() | times,
        read_at=st.none() | times,
        failed_at=st.none() | times,
        failure=st.none()
        | st.fixed_dictionaries(
            {"reason": words, "metaCode": st.integers(0, 200_000), "detail": words, "advice": words}
        ).map(json.dumps),
        next_attempt_at=st.none() | times,
        wamid=st.none() | words,
        reply_to_message_id=st.none() | st.uuids(),
        sender_user_id=st.none() | st.uuids(),
        request_id=words,
        customer_sent_at=st.none() | times,
        created_at=times,
        media_id=st.just(uuid.UUID(int=7)),
        media_state=st.none() | st.sampled_from(["pending", "ready", "failed"]),
        media_mime_type=st.just("image/png"),
        media_filename=words,
        media_size_bytes=st.integers(0, 2**40),
        media_failure=words,
        inbound_emoji=st.none() | words,
        inbound_reacted_at=times,
    )
)
def test_json_of_a_message_is_the_json_of_its_proto(row):
    both(row)


def test_a_template_shows_what_was_sent():
    components = [{"type": "body", "parameters": [{"type": "text", "text": "Ana"}]}, {"index": 0, "price": 1.5}]
    content = {"name": "order_update", "language": "en_US", "components": components}
    printed = both(message_row(type="template", content=json.dumps(content)))
    assert printed["template"] == content
    assert "content" not in printed


def test_content_of_other_types_is_metas_object():
    row = message_row(type="location", direction="inbound", content='{"latitude": 1.25, "name": "Office"}')
    assert both(row)["content"] == {"latitude": 1.25, "name": "Office"}


def test_a_list_stands_under_the_types_name():
    row = message_row(type="contacts", direction="inbound", content='[{"name": {"first_name": "Ana"}}]')
    assert both(row)["content"] == {"contacts": [{"name": {"first_name": "Ana"}}]}


@pytest.mark.parametrize("number", ["1" + "0" * 400, "-1e999", "9" * 5000])
def test_numbers_that_no_double_holds_become_text(number):
    row = message_row(type="order", direction="inbound", content=f'{{"price": {number}}}')
    assert both(row)["content"] == {"price": number}


def test_content_nested_beyond_what_protos_carry_ends_in_text():
    deep = "[" * 200 + "]" * 200
    row = message_row(type="order", direction="inbound", content=f'{{"deep": {deep}}}')
    printed = both(row)
    wire = convert.message_proto(row).SerializeToString()
    assert to_dict(type(convert.message_proto(row)).FromString(wire)) == printed
    assert deep[30:-30] in json.dumps(printed)


def test_a_claimed_message_still_shows_as_queued():
    assert both(message_row(status="sending"))["status"] == "queued"


def test_history_follows_the_way_even_where_metas_clock_lags():
    row = message_row(
        status="read",
        accepted_at=NOW + timedelta(seconds=0.7),
        sent_at=NOW,
        read_at=NOW + timedelta(seconds=2),
    )
    assert [step["status"] for step in both(row)["statusHistory"]] == ["queued", "accepted", "sent", "read"]


def test_a_failure_is_hidden_once_meta_said_better():
    failure = json.dumps({"reason": "OUTCOME_UNKNOWN", "metaCode": 0, "detail": "lost", "advice": "wait"})
    assert both(message_row(status="unknown", failure=failure))["failure"]["reason"] == "OUTCOME_UNKNOWN"
    assert "failure" not in both(message_row(status="delivered", failure=failure))


def test_a_waiting_retry_shows_why_and_when():
    failure = json.dumps({"reason": "META_RATE_LIMITED", "metaCode": 130429, "detail": "slow down", "advice": "none"})
    printed = both(message_row(failure=failure, next_attempt_at=NOW))
    assert printed["failure"]["metaCode"] == 130429
    assert printed["failure"]["retryTime"] == "2026-05-01T12:00:00Z"


def test_a_reaction_taken_back_is_gone():
    row = message_row(inbound_emoji="", inbound_reacted_at=NOW, outbound_emoji="👍", outbound_reacted_at=NOW)
    assert [reaction["emoji"] for reaction in both(row)["reactions"]] == ["👍"]


def test_the_window_is_open_for_24_hours_and_not_a_moment_longer():
    assert convert.window_expires_at(None, NOW) is None
    assert convert.window_expires_at(NOW - timedelta(hours=24) + timedelta(microseconds=1), NOW) is not None
    assert convert.window_expires_at(NOW - timedelta(hours=24), NOW) is None


async def test_snapshots_of_many_messages_are_one_statement_in_the_order_of_the_keys(worker_db, sql, tenant_id):
    from kit.principal import Principal

    media = await make_media(sql, tenant_id, direction="inbound")
    other = await make_message(sql, new_id())
    image = await make_message(sql, tenant_id, type="image", body="Look", media_id=media["id"])
    text = await make_message(sql, tenant_id)
    await insert(
        sql,
        "reactions",
        tenant_id=tenant_id,
        id=None,
        message_id=text["id"],
        direction="inbound",
        emoji="🎉",
        reacted_at=moment(),
    )
    keys = [(row["tenant_id"], row["id"]) for row in (text, other, image)]
    async with worker_db.begin(Principal.service("messaging-inbox")) as tx:
        rows = await tx.fetch(snapshots.MESSAGES_BY_KEY, [key[0] for key in keys], [key[1] for key in keys])
    assert [(row["tenant_id"], row["id"]) for row in rows] == keys
    reacted, _, pictured = (both(row) for row in rows)
    assert [reaction["emoji"] for reaction in reacted["reactions"]] == ["🎉"]
    assert pictured["media"] == {
        "mediaId": str(media["id"]),
        "mimeType": "image/jpeg",
        "caption": "Look",
        "state": "ready",
        "sizeBytes": str(media["size_bytes"]),
    }


async def test_json_of_a_conversation_is_the_json_of_its_proto(worker_db, sql, tenant_id):
    from kit.principal import Principal

    contact = await make_contact(sql, tenant_id, username="@ana", user_id="US.1")
    empty = await make_conversation(sql, tenant_id, contact_id=contact["id"], customer_wrote_at=None)
    busy = await make_conversation(sql, tenant_id, unanswered_count=3)
    message = await make_message(sql, tenant_id, conversation=busy)
    async with worker_db.begin(Principal.service("messaging-inbox")) as tx:
        keys = [tenant_id, tenant_id], [empty["id"], busy["id"]]
        rows = await tx.fetch(snapshots.CONVERSATIONS_BY_KEY, *keys)
    now = moment()
    printed = as_sent([convert.conversation_json(row, now) for row in rows])
    assert printed == [to_dict(convert.conversation_proto(row, now)) for row in rows]
    assert printed[0]["contact"] == as_sent(convert.contact_json(rows[0])) == to_dict(convert.contact_proto(rows[0]))
    assert "lastMessage" not in printed[0]
    assert "windowExpireTime" not in printed[0]
    assert printed[1]["lastMessage"]["id"] == str(message["id"])
    assert printed[1]["unansweredCount"] == 3
    assert "windowExpireTime" in printed[1]


async def test_events_of_several_tenants_leave_in_one_batch_per_tenant(worker_db, sql):
    from kit.principal import Principal

    ours, theirs = new_id(), new_id()
    rows = [await make_message(sql, tenant) for tenant in (ours, theirs, ours)]
    keys = [(row["tenant_id"], row["id"]) for row in rows]
    async with worker_db.begin(Principal.service("messaging-inbox")) as tx:
        sent = leaving(of_messages(events.RECEIVED, await events.messages(tx, keys)))
        updated = await events.messages_updated(tx, keys[:1])
        talks = await events.conversations(tx, [(ours, rows[0]["conversation_id"])])
        conversation = leaving(events.of_conversations(talks, moment()))
    assert {each.subject for each in sent} == {
        f"events.messaging.message.received.{ours}",
        f"events.messaging.message.received.{theirs}",
    }
    assert updated[0].subject == f"events.messaging.message.updated.{ours}"
    assert conversation[0].subject == f"events.messaging.conversation.updated.{ours}"
    assert json.loads(conversation[0].data)["conversation"]["lastMessage"]["id"] == str(rows[0]["id"])


def test_an_event_names_its_message():
    row = message_row(body="Hello")
    (event,) = of_messages(events.QUEUED, [row])
    (sent,) = leaving([event])
    assert sent.headers["ce-subject"] == f"messages/{row['id']}"
    assert json.loads(sent.data) == {"message": as_sent(convert.message_json(row))}
