"""The one range of bytes that a request asks for, as players do that jump within a recording (RFC 9110 section 14)."""

import re

from gateway.problems import RangeNotSatisfiable

_ONE = re.compile(r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*")


def parse(header: str | None, size: int) -> range | None:
    """The positions wanted of a file of so many bytes; None for all of it, also where the header makes no sense or
    names several ranges, which servers may ignore. Raises RangeNotSatisfiable.
    """
    found = _ONE.fullmatch(header or "")
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        wanted = range(max(0, size - int(last)), size)
    else:
        if last and int(last) < int(first):
            return None
        wanted = range(int(first), min(int(last) + 1, size) if last else size)
    if not wanted:
        raise RangeNotSatisfiable(size)
    return wanted


def cut(piece: bytes, offset: int, wanted: range) -> bytes:
    """What of a piece, which begins at `offset` of its file, lies within the range."""
    return piece[max(0, wanted.start - offset) : max(0, wanted.stop - offset)]
