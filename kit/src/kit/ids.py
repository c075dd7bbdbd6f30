"""Ids: UUIDv7 (RFC 9562), which grow with time, so that they order rows and index well."""

import uuid

import uuid_utils.compat


def new_id() -> uuid.UUID:
    """A fresh id. Within one process each is greater than the one before, also when the clock steps back."""
    return uuid_utils.compat.uuid7()


def parse_id(text: str) -> uuid.UUID | None:
    """The id that a text in canonical form names; None for anything else."""
    try:
        parsed = uuid.UUID(text)
    except ValueError:
        return None
    return parsed if str(parsed) == text.lower() else None
