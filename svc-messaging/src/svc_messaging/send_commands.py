"""The commands of the stream SEND: which message to send, and to which partition it belongs."""

import uuid

import msgspec

from kit import telemetry
from kit.outbox import Outgoing
from kit.partitions import partition_of


class Command(msgspec.Struct, frozen=True, rename="camel"):
    """Send this message now. The message row is the truth; a command for one that is no longer queued does nothing."""

    message_id: uuid.UUID
    tenant_id: uuid.UUID
    phone_number_id: str
    contact_id: uuid.UUID


class CommandMalformed(Exception):
    """The bytes are no command."""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Command)


def outgoing(command: Command, *, lane: str, partitions: int, attempt: int = 0) -> Outgoing:
    """The outbox row of a command; it carries the current trace. `lane` is "live" or "bulk"."""
    subject = f"send.{lane}.{partition_of(command.phone_number_id, partitions)}"
    # Each attempt is a command of its own: the same id would be taken for a repetition within two minutes.
    message_id = uuid.uuid5(command.message_id, str(attempt)) if attempt else command.message_id
    return Outgoing(subject, _encoder.encode(command), headers=telemetry.headers(), id=message_id)


def decode(data: bytes) -> Command:
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise CommandMalformed(str(error)) from error
