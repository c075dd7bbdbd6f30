"""The commands of the stream SEND: which messages to send, and to which partition they belong.

One command travels as an object, several of one partition as a list: a thousand messages a second would otherwise cost
a thousand disk flushes a second, and as many acknowledgements.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from kit import telemetry
from kit.outbox import Join
from kit.outgoing import Outgoing
from kit.partitions import name_of, partition_of


class Command(msgspec.Struct, frozen=True, rename="camel"):
    """Send this message now. The message row is the truth; a command for one that is no longer queued does nothing."""

    message_id: uuid.UUID
    tenant_id: uuid.UUID
    phone_number_id: str
    contact_id: uuid.UUID


class CommandMalformed(Exception):
    """The bytes are no command."""


TOGETHER_MAX = 100
"""Commands of one message. All of them come again when the process that holds them dies."""

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Command | list[Command])


def outgoing(command: Command, *, lane: str, partitions: int, scope: str, attempt: int = 0) -> Outgoing:
    """The outbox row of a command; it carries the current trace. `lane` is "live" or "bulk", `scope` where the
    tenant's work waits, as placements.scope_of tells it.
    """
    subject = _subject(command.phone_number_id, lane, partitions, scope)
    # Each attempt is a command of its own: the same id would be taken for a repetition within two minutes.
    message_id = uuid.uuid5(command.message_id, str(attempt)) if attempt else command.message_id
    return Outgoing(subject, _encoder.encode(command), headers=telemetry.headers(), id=message_id)


def outgoing_together(commands: Sequence[Command], *, lane: str, partitions: int, scope: str) -> Iterator[Outgoing]:
    """Outbox rows of many commands, in order, those of a number together. As `outgoing` otherwise."""
    by_number: dict[str, list[Command]] = {}
    for command in commands:
        by_number.setdefault(command.phone_number_id, []).append(command)
    for number, group in by_number.items():
        subject = _subject(number, lane, partitions, scope)
        for start in range(0, len(group), TOGETHER_MAX):
            data = _encoder.encode(group[start : start + TOGETHER_MAX])
            yield Outgoing(subject, data, headers=telemetry.headers())


def _subject(phone_number_id: str, lane: str, partitions: int, scope: str) -> str:
    return f"send.{lane}.{name_of(partition_of(phone_number_id, partitions), scope)}"


def joined(parts: Sequence[bytes]) -> bytes:
    """The data of several messages as that of one."""
    inner = (part[1:-1] if part[:1] == b"[" else part for part in parts)
    return b"[%s]" % b",".join(inner)


JOINS: Mapping[str, Join] = {"send": joined}
"""For the relay: commands that people's messages bring one by one leave together."""


def decode(data: bytes) -> list[Command]:
    """The commands of one message. Raises CommandMalformed."""
    try:
        decoded = _decoder.decode(data)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise CommandMalformed(str(error)) from error
    return decoded if isinstance(decoded, list) else [decoded]
