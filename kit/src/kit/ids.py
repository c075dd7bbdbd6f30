"""Ids: UUIDv7 (RFC 9562), which grow with time, so that they order rows and index well."""

import uuid
from datetime import UTC, datetime, timedelta

import msgspec
import uuid_utils.compat

_CANONICAL = len("00000000-0000-0000-0000-000000000000")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def new_id() -> uuid.UUID:
    """A fresh id. Within one process each is greater than the one before, also when the clock steps back."""
    return uuid_utils.compat.uuid7()


def time_of(made: uuid.UUID) -> datetime:
    """When an id of `new_id` was made, to the millisecond."""
    return _EPOCH + timedelta(milliseconds=made.int >> 80)


def first_id_at(moment: datetime) -> uuid.UUID:
    """Not above any id made at this moment or later, to the millisecond, and above all that were made before."""
    return uuid.UUID(int=((moment - _EPOCH) // timedelta(milliseconds=1)) << 80)


def parse_id(text: str) -> uuid.UUID | None:
    """The id that a text in canonical form names; None for anything else."""
    try:
        return msgspec.convert(text, uuid.UUID) if len(text) == _CANONICAL else None
    except msgspec.ValidationError:
        return None
