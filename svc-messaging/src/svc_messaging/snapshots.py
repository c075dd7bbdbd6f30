"""The SELECTs that yield whole messages, conversations and contacts: one statement however many there are.

`convert` reads their rows. Columns of a message have their plain names; those of a contact begin with `contact_`, those
of a conversation with `conversation_`, so that a conversation's row is also the row of its newest message.
"""

_CONTACT = """
    k.name AS contact_name, k.username AS contact_username, k.phone AS contact_phone, k.wa_id AS contact_wa_id,
    k.user_id AS contact_user_id, k.created_at AS contact_created_at, k.updated_at AS contact_updated_at"""

_CONVERSATION = """
    c.whatsapp_account_id AS conversation_whatsapp_account_id, c.phone_number_id AS conversation_phone_number_id,
    c.state AS conversation_state, c.unanswered_count AS conversation_unanswered_count,
    c.customer_wrote_at AS conversation_customer_wrote_at, c.last_activity_at AS conversation_last_activity_at,
    c.created_at AS conversation_created_at"""

_MESSAGE = """
    m.id, m.whatsapp_account_id, m.direction, m.type, m.body, m.content, m.media_id,
    m.status, m.accepted_at, m.sent_at, m.delivered_at, m.read_at, m.played_at, m.failed_at,
    m.failure, m.next_attempt_at, m.wamid, m.reply_to_wamid, m.reply_to_message_id, m.sender_user_id, m.request_id,
    m.customer_sent_at, m.created_at,
    f.mime_type AS media_mime_type, f.filename AS media_filename, f.state AS media_state,
    f.size_bytes AS media_size_bytes, f.failure AS media_failure,
    ri.emoji AS inbound_emoji, ri.reacted_at AS inbound_reacted_at,
    ro.emoji AS outbound_emoji, ro.reacted_at AS outbound_reacted_at"""

OF_MESSAGE = """
    LEFT JOIN media f ON f.tenant_id = m.tenant_id AND f.id = m.media_id
    LEFT JOIN reactions ri ON ri.tenant_id = m.tenant_id AND ri.message_id = m.id AND ri.direction = 'inbound'
    LEFT JOIN reactions ro ON ro.tenant_id = m.tenant_id AND ro.message_id = m.id AND ro.direction = 'outbound'"""
"""What belongs to the message `m` in other tables."""

_CONTACT_OF_CONVERSATION = "JOIN contacts k ON k.tenant_id = c.tenant_id AND k.id = c.contact_id"
_LAST_MESSAGE = "LEFT JOIN messages m ON m.tenant_id = c.tenant_id AND m.id = c.last_message_id"

_WANTED = "unnest($1::uuid[], $2::uuid[]) WITH ORDINALITY AS wanted (tenant_id, id, place)"


MESSAGE_COLUMNS = f"m.tenant_id, m.conversation_id, m.contact_id, {_MESSAGE}"
"""What a whole message consists of, for statements that have `m` and join OF_MESSAGE."""


def _messages(source: str) -> str:
    return f"SELECT {MESSAGE_COLUMNS} FROM {source} {OF_MESSAGE}"


def _conversations(source: str, *, message: str = _LAST_MESSAGE, more: str = "") -> str:
    columns = f"c.tenant_id, c.id AS conversation_id, c.contact_id, {_CONVERSATION}, {_CONTACT}, {_MESSAGE}{more}"
    return f"SELECT {columns} FROM {source} {_CONTACT_OF_CONVERSATION} {message} {OF_MESSAGE}"


CONTACTS = f"SELECT k.tenant_id, k.id AS contact_id, {_CONTACT} FROM contacts k"
"""Goes on with WHERE; the contact is `k`."""

FOUND_CONTACTS = f"""
    SELECT k.tenant_id, k.id AS contact_id, t.term, {_CONTACT}
    FROM found t JOIN contacts k ON k.tenant_id = t.tenant_id AND k.id = t.contact_id"""
"""Ends a statement that finds contacts by their terms, `WITH found AS (…)`; goes on with ORDER BY."""

CONVERSATIONS = _conversations("conversations c")
"""Goes on with WHERE; the conversation is `c`, its newest message `m`."""

WRITTEN = _conversations(
    "conversation c",
    message="CROSS JOIN message m",
    more=", (SELECT p.isolation FROM placements p WHERE p.tenant_id = c.tenant_id) AS isolation",
)
"""Ends a statement that writes a message and its conversation `WITH message AS (…), conversation AS (…)`. Tells also
where the tenant's work waits, for placements.scope_of.
"""

MESSAGES = _messages("messages m")
"""Goes on with WHERE; the message is `m`."""

CONVERSATIONS_BY_KEY = f"""
    {_conversations(f"{_WANTED} JOIN conversations c ON c.tenant_id = wanted.tenant_id AND c.id = wanted.id")}
    ORDER BY wanted.place"""
"""$1: tenant ids, $2: conversation ids. Rows come in the order of the keys; unknown keys give none."""

MESSAGES_BY_KEY = f"""
    {_messages(f"{_WANTED} JOIN messages m ON m.tenant_id = wanted.tenant_id AND m.id = wanted.id")}
    ORDER BY wanted.place"""
"""$1: tenant ids, $2: message ids. Rows come in the order of the keys; unknown keys give none."""
