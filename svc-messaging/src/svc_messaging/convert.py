"""Rows to protos and to JSON: the border between created_at and create_time.

Each resource has two printers that say the same (a test compares them through kit.proto_json): `…_proto` for RPC
answers, `…_json` for what leaves by the thousand and therefore skips the proto: events, and answers to the gateway.
Ids and times stay objects there until msgspec writes them; isoformat would take fifty times as long. Rows come from
`snapshots`.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from aerostic.messaging.v1 import (
    contact_pb2,
    conversation_pb2,
    media_service_pb2,
    message_pb2,
    parked_event_service_pb2,
)
from google.protobuf.timestamp_pb2 import Timestamp

from kit.db import Row
from svc_messaging import contents

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WINDOW = timedelta(hours=24)
"""How long after the customer's last message anything but a template may be sent (Meta's customer service window)."""

# The way of an outbound message, in the order of the status lattice. Meta's clock tells whole seconds, so by time a
# step could stand before the one that led to it.
_STEPS = (
    ("accepted", "accepted_at"),
    ("sent", "sent_at"),
    ("failed", "failed_at"),
    ("delivered", "delivered_at"),
    ("read", "read_at"),
    ("played", "played_at"),
)
_FAILING = frozenset(("failed", "unknown", "queued", "sending"))
"""Statuses with which a failure is shown: a later word from Meta has overtaken it in all others."""


def contact_json(row: Row) -> dict[str, Any]:
    data = {
        "id": row["contact_id"],
        "createTime": row["contact_created_at"],
        "updateTime": row["contact_updated_at"],
    }
    for key, column in _CONTACT_TEXTS:
        if text := row[column]:
            data[key] = text
    return data


_CONTACT_TEXTS = (
    ("name", "contact_name"),
    ("username", "contact_username"),
    ("phone", "contact_phone"),
    ("waId", "contact_wa_id"),
    ("userId", "contact_user_id"),
)


def contact_proto(row: Row) -> contact_pb2.Contact:
    return contact_pb2.Contact(
        id=str(row["contact_id"]),
        name=row["contact_name"],
        username=row["contact_username"],
        phone=row["contact_phone"],
        wa_id=row["contact_wa_id"],
        user_id=row["contact_user_id"],
        create_time=_stamp(row["contact_created_at"]),
        update_time=_stamp(row["contact_updated_at"]),
    )


def window_expires_at(customer_wrote_at: datetime | None, now: datetime) -> datetime | None:
    """Until when anything may be sent; None when only templates may."""
    if customer_wrote_at is None or customer_wrote_at + WINDOW <= now:
        return None
    return customer_wrote_at + WINDOW


def conversation_json(row: Row, now: datetime) -> dict[str, Any]:
    """`now` decides whether the 24-hour window is open."""
    data = {
        "id": row["conversation_id"],
        "contact": contact_json(row),
        "whatsappAccountId": row["conversation_whatsapp_account_id"],
        "state": row["conversation_state"],
        "unansweredCount": row["conversation_unanswered_count"],
        "createTime": row["conversation_created_at"],
        "lastActivityTime": row["conversation_last_activity_at"],
    }
    if row["id"] is not None:
        data["lastMessage"] = message_json(row)
    if expires_at := window_expires_at(row["conversation_customer_wrote_at"], now):
        data["windowExpireTime"] = expires_at
    return data


def conversation_proto(row: Row, now: datetime) -> conversation_pb2.Conversation:
    """`now` decides whether the 24-hour window is open."""
    return conversation_pb2.Conversation(
        id=str(row["conversation_id"]),
        contact=contact_proto(row),
        whatsapp_account_id=str(row["conversation_whatsapp_account_id"]),
        state=row["conversation_state"],
        unanswered_count=row["conversation_unanswered_count"],
        last_message=message_proto(row) if row["id"] is not None else None,
        window_expire_time=_stamp(window_expires_at(row["conversation_customer_wrote_at"], now)),
        create_time=_stamp(row["conversation_created_at"]),
        last_activity_time=_stamp(row["conversation_last_activity_at"]),
    )


def message_json(row: Row) -> dict[str, Any]:
    data = {
        "id": row["id"],
        "conversationId": row["conversation_id"],
        "contactId": row["contact_id"],
        "whatsappAccountId": row["whatsapp_account_id"],
        "direction": row["direction"],
        "type": row["type"],
        "status": _status(row),
        "statusHistory": [{"status": status, "time": at} for status, at in _history(row)],
        "createTime": row["created_at"],
        "reactions": [{"direction": direction, "emoji": emoji, "time": at} for direction, emoji, at in _reactions(row)],
    }
    contents.add_json(row, data)
    if failure := _failure(row):
        data["failure"] = _failure_json(failure, row["next_attempt_at"])
    for key, column in _MESSAGE_TEXTS:
        if text := row[column]:
            data[key] = text
    for key, column in _MESSAGE_IDS:
        if (value := row[column]) is not None:
            data[key] = value
    if sent_at := row["customer_sent_at"]:
        data["sendTime"] = sent_at
    return data


_MESSAGE_TEXTS = (("wamid", "wamid"), ("replyToWamid", "reply_to_wamid"), ("requestId", "request_id"))
_MESSAGE_IDS = (("replyToMessageId", "reply_to_message_id"), ("senderUserId", "sender_user_id"))


def message_proto(row: Row) -> message_pb2.Message:
    message = message_pb2.Message(
        id=str(row["id"]),
        conversation_id=str(row["conversation_id"]),
        contact_id=str(row["contact_id"]),
        whatsapp_account_id=str(row["whatsapp_account_id"]),
        direction=row["direction"],
        type=row["type"],
        status=_status(row),
        status_history=[message_pb2.StatusChange(status=status, time=_stamp(at)) for status, at in _history(row)],
        failure=_failure_proto(_failure(row), row["next_attempt_at"]),
        wamid=row["wamid"] or "",
        reply_to_message_id=str(row["reply_to_message_id"] or ""),
        reply_to_wamid=row["reply_to_wamid"] or "",
        sender_user_id=str(row["sender_user_id"] or ""),
        request_id=row["request_id"],
        create_time=_stamp(row["created_at"]),
        send_time=_stamp(row["customer_sent_at"]),
        reactions=[
            message_pb2.Reaction(direction=direction, emoji=emoji, time=_stamp(at))
            for direction, emoji, at in _reactions(row)
        ],
    )
    contents.add_proto(row, message)
    return message


def media_proto(row: Row) -> media_service_pb2.Media:
    """`row`: of the table media."""
    return media_service_pb2.Media(
        id=str(row["id"]),
        direction=row["direction"],
        state=row["state"],
        mime_type=row["mime_type"],
        filename=row["filename"],
        size_bytes=row["size_bytes"],
        sha256=row["sha256"],
        failure=row["failure"],
        create_time=_stamp(row["created_at"]),
    )


def parked_event_proto(row: Row) -> parked_event_service_pb2.ParkedEvent:
    """`row`: of the table parked_events."""
    return parked_event_service_pb2.ParkedEvent(
        id=str(row["id"]),
        reason=row["reason"],
        detail=row["detail"],
        phone_number_id=row["phone_number_id"],
        body=row["body"],
        receive_time=_stamp(row["received_at"]),
        state="retrying" if row["state"] == "parked" and row["retry_requested_at"] else row["state"],
    )


def _status(row: Row) -> str:
    # That a sender has claimed it is of no use to people, and passes within moments.
    status: str = row["status"]
    return "queued" if status == "sending" else status


def _history(row: Row) -> list[tuple[str, datetime]]:
    if row["direction"] == "inbound":
        return [("received", row["created_at"])]
    return [("queued", row["created_at"]), *((status, at) for status, column in _STEPS if (at := row[column]))]


def _reactions(row: Row) -> list[tuple[str, str, datetime]]:
    # An empty emoji takes a reaction back.
    return [(direction, emoji, row[at]) for direction, column, at in _REACTIONS if (emoji := row[column])]


_REACTIONS = (
    ("inbound", "inbound_emoji", "inbound_reacted_at"),
    ("outbound", "outbound_emoji", "outbound_reacted_at"),
)


def _failure(row: Row) -> dict[str, Any] | None:
    return contents.parsed(row["failure"]) if row["failure"] and row["status"] in _FAILING else None


def _failure_json(failure: dict[str, Any], retry_at: datetime | None) -> dict[str, Any]:
    data: dict[str, Any] = {key: failure[key] for key in ("reason", "detail", "advice") if failure.get(key)}
    data["metaCode"] = failure.get("metaCode") or 0
    if retry_at:
        data["retryTime"] = retry_at
    return data


def _failure_proto(failure: dict[str, Any] | None, retry_at: datetime | None) -> message_pb2.Failure | None:
    if failure is None:
        return None
    return message_pb2.Failure(
        reason=failure.get("reason") or "",
        meta_code=failure.get("metaCode") or 0,
        detail=failure.get("detail") or "",
        advice=failure.get("advice") or "",
        retry_time=_stamp(retry_at),
    )


def _stamp(moment: datetime | None) -> Timestamp | None:
    if moment is None:
        return None
    # Timestamp.FromDatetime says the same and takes five times as long.
    since = moment - _EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1000)
