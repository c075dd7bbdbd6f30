"""What callers of svc-messaging may be told, each reason registered in aerostic.messaging.v1.ErrorReason."""

import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode

from kit.errors import AppError, Violation

_QUEUE_SECONDS = 5.0
"""In which even the slowest number sends a hundred messages."""


class ContactNotFound(AppError):
    code, reason = StatusCode.NOT_FOUND, "CONTACT_NOT_FOUND"

    def __init__(self, contact_id: uuid.UUID) -> None:
        super().__init__(f"This workspace has no contact {contact_id}.")


class ConversationNotFound(AppError):
    code, reason = StatusCode.NOT_FOUND, "CONVERSATION_NOT_FOUND"

    def __init__(self, conversation_id: uuid.UUID) -> None:
        super().__init__(f"This workspace has no conversation {conversation_id}.")


class ConversationClosed(AppError):
    code, reason = StatusCode.FAILED_PRECONDITION, "CONVERSATION_CLOSED"

    def __init__(self) -> None:
        super().__init__("The conversation is closed; start a new one with a template, or wait for the customer.")


class MessageNotFound(AppError):
    code, reason = StatusCode.NOT_FOUND, "MESSAGE_NOT_FOUND"

    @classmethod
    def in_workspace(cls, message_id: uuid.UUID) -> "MessageNotFound":
        return cls(f"This workspace has no message {message_id}.")

    @classmethod
    def to_quote(cls, message_id: uuid.UUID) -> "MessageNotFound":
        """WhatsApp knows a message by an id of its own, which one that was not accepted yet does not have."""
        return cls(f"This conversation has no message {message_id} that reached WhatsApp and could be quoted.")


class MediaNotFound(AppError):
    code, reason = StatusCode.NOT_FOUND, "MEDIA_NOT_FOUND"

    @classmethod
    def in_workspace(cls, media_id: uuid.UUID) -> "MediaNotFound":
        return cls(f"This workspace has no file {media_id}.")

    @classmethod
    def to_send(cls, media_id: uuid.UUID) -> "MediaNotFound":
        return cls(f"This workspace has uploaded no file {media_id}.")


class MediaNotReady(AppError):
    code, reason = StatusCode.FAILED_PRECONDITION, "MEDIA_NOT_READY"

    def __init__(self, state: str) -> None:
        super().__init__(f"The file is not here: it is {state}.", state=state)


class MediaNotFailed(AppError):
    code, reason = StatusCode.FAILED_PRECONDITION, "MEDIA_NOT_FAILED"

    def __init__(self, state: str) -> None:
        super().__init__(f"Only a failed file can be asked for once more; this one is {state}.", state=state)


class MediaExpired(AppError):
    code, reason = StatusCode.FAILED_PRECONDITION, "MEDIA_EXPIRED"

    def __init__(self) -> None:
        super().__init__("Meta keeps a customer's file for 7 days, which are over; ask the customer to send it again.")


class MediaTypeUnsupported(AppError):
    code, reason = StatusCode.INVALID_ARGUMENT, "MEDIA_TYPE_UNSUPPORTED"

    def __init__(self, field: str, allowed: Iterable[str]) -> None:
        words = ", ".join(allowed)
        super().__init__(
            f"Meta does not take this type here; it takes {words}.",
            violations=[Violation(field, "media.type", f"must be of a type that Meta takes: {words}")],
            allowed=words,
        )


class MediaTypeMismatch(AppError):
    code, reason = StatusCode.INVALID_ARGUMENT, "MEDIA_TYPE_MISMATCH"

    def __init__(self, mime_type: str) -> None:
        super().__init__(
            f"The file's bytes are not {mime_type}.",
            violations=[Violation("description.mimeType", "media.bytes", "must be the type that the bytes have")],
        )


class MediaTooLarge(AppError):
    code, reason = StatusCode.INVALID_ARGUMENT, "MEDIA_TOO_LARGE"

    def __init__(self, field: str, max_bytes: int) -> None:
        must = f"must be a file of {max_bytes} bytes at most"
        super().__init__(
            f"The file is too large: Meta takes {max_bytes} bytes at most of this type.",
            violations=[Violation(field, "media.size", must)],
            max_bytes=str(max_bytes),
        )


class MediaIncomplete(AppError):
    code, reason = StatusCode.INVALID_ARGUMENT, "MEDIA_INCOMPLETE"

    def __init__(self) -> None:
        super().__init__("The upload ended before a description and at least one byte had come.")


class WindowClosed(AppError):
    code, reason = StatusCode.FAILED_PRECONDITION, "WINDOW_CLOSED"

    def __init__(self, customer_wrote_at: datetime | None, window: timedelta) -> None:
        super().__init__("The customer has not written within 24 hours, so only a template may be sent.")
        if customer_wrote_at is not None:
            self.metadata["lastCustomerMessageTime"] = _printed(customer_wrote_at)
            self.metadata["windowExpireTime"] = _printed(customer_wrote_at + window)


class TenantSuspended(AppError):
    code, reason = StatusCode.PERMISSION_DENIED, "TENANT_SUSPENDED"

    def __init__(self) -> None:
        super().__init__("The workspace is suspended and sends nothing; its data is kept.")


class TenantDeleting(AppError):
    code, reason = StatusCode.FAILED_PRECONDITION, "TENANT_DELETING"

    def __init__(self) -> None:
        super().__init__("The workspace is being erased.")


class NumberNotConnected(AppError):
    code, reason = StatusCode.FAILED_PRECONDITION, "NUMBER_NOT_CONNECTED"

    @classmethod
    def any_more(cls) -> "NumberNotConnected":
        return cls("The number of this conversation is not connected any more.")

    @classmethod
    def named(cls, account_id: uuid.UUID) -> "NumberNotConnected":
        return cls(f"This workspace has no number {account_id} connected.")

    @classmethod
    def unnamed(cls, count: int) -> "NumberNotConnected":
        """None was named, and the workspace has none or several."""
        if count == 0:
            return cls("This workspace has no number connected.")
        return cls(f"This workspace has {count} numbers connected; name one by whatsappAccountId.")


class RequestIdReused(AppError):
    code, reason = StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED"

    def __init__(self) -> None:
        super().__init__("This requestId was used for another message; choose a new one for each message.")


class SendQueueFull(AppError):
    code, reason = StatusCode.RESOURCE_EXHAUSTED, "SEND_QUEUE_FULL"

    def __init__(self) -> None:
        super().__init__(
            "Too many messages of this number wait to be sent; try again soon.", retry_after=_QUEUE_SECONDS
        )


class ParkedEventNotFound(AppError):
    code, reason = StatusCode.NOT_FOUND, "PARKED_EVENT_NOT_FOUND"

    def __init__(self, event_id: uuid.UUID) -> None:
        super().__init__(f"There is no parked event {event_id}.")


class DeadLetterNotFound(AppError):
    code, reason = StatusCode.NOT_FOUND, "DEAD_LETTER_NOT_FOUND"

    def __init__(self, letter_id: int) -> None:
        super().__init__(f"There is no dead letter {letter_id}: its time is over, or it was retried.")


def _printed(moment: datetime) -> str:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp.ToJsonString()
