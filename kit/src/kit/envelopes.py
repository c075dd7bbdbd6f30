"""Envelopes: many webhook bodies in one JetStream message, so that one disk flush acknowledges all of them.

An entry keeps the body exactly as it was verified. The encoding is MessagePack, which carries bytes as they are.
"""

import msgspec


class Entry(msgspec.Struct, array_like=True, frozen=True):
    """One verified webhook body."""

    body: bytes
    received_at_ms: int
    """Unix milliseconds at which the last byte of the body had arrived."""
    traceparent: str = ""
    """W3C trace context of the request; empty where it is not sampled."""


class EnvelopeMalformed(Exception):
    """The bytes are no envelope. Only a foreign publisher can cause it."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Entry])


def encode(entries: list[Entry]) -> bytes:
    return _encoder.encode(entries)


def decode(data: bytes) -> list[Entry]:
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError as error:
        raise EnvelopeMalformed(str(error)) from error
