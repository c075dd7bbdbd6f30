"""The types of files that Meta takes, how large each may be, and how its bytes begin (Meta: media)."""

from collections.abc import Callable
from dataclasses import dataclass

HEAD_BYTES = 4096
"""As much of a file as tells its type."""

_KIB = 1024
_MIB = 1024 * 1024
# Byte order marks, and what plain text has below the space: tab, line feed, form feed, carriage return, escape.
_MARKS = (b"\xff\xfe", b"\xfe\xff")
_CONTROLS = frozenset(range(32)) - frozenset(b"\t\n\x0c\r\x1b")


@dataclass(frozen=True, slots=True)
class MediaType:
    """A type that Meta takes."""

    mime_type: str
    max_bytes: int
    begins: Callable[[bytes], bool]
    """Whether a file of this type may begin with these bytes."""


def find(mime_type: str) -> MediaType | None:
    """The type of this name, whatever its case and parameters; None where Meta does not take it."""
    return TYPES.get(mime_type.partition(";")[0].strip().lower())


def _jpeg(head: bytes) -> bool:
    return head.startswith(b"\xff\xd8\xff")


def _png(head: bytes) -> bool:
    return head.startswith(b"\x89PNG\r\n\x1a\n") and head[12:16] == b"IHDR"


def _webp(head: bytes) -> bool:
    return head.startswith(b"RIFF") and head[8:12] == b"WEBP"


def _aac(head: bytes) -> bool:
    # A frame begins with twelve set bits, and its layer is 0.
    return head.startswith((b"ADIF", b"ID3")) or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0)


def _amr(head: bytes) -> bool:
    return head.startswith(b"#!AMR")


def _mp3(head: bytes) -> bool:
    # A frame begins with eleven set bits, and its layer is III.
    is_frame = len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2
    return head.startswith(b"ID3") or is_frame


def _opus(head: bytes) -> bool:
    return head.startswith(b"OggS") and b"OpusHead" in head[:128]


def _mp4(head: bytes) -> bool:
    return head[4:8] == b"ftyp" and head[8:11] not in {b"3gp", b"3g2", b"qt "}


def _3gpp(head: bytes) -> bool:
    return head[4:8] == b"ftyp" and head[8:11] == b"3gp"


def _pdf(head: bytes) -> bool:
    # Readers look for it in the first kibibyte.
    return b"%PDF-" in head[:1024]


def _ole(head: bytes) -> bool:
    return head.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")


def _zip(head: bytes) -> bool:
    return head.startswith(b"PK\x03\x04")


def _text(head: bytes) -> bool:
    return head.startswith(_MARKS) or not _CONTROLS.intersection(head)


_OFFICE = "application/vnd.openxmlformats-officedocument"

TYPES = {
    each.mime_type: each
    for each in (
        MediaType("image/jpeg", 5 * _MIB, _jpeg),
        MediaType("image/png", 5 * _MIB, _png),
        MediaType("image/webp", 500 * _KIB, _webp),
        MediaType("audio/aac", 16 * _MIB, _aac),
        MediaType("audio/amr", 16 * _MIB, _amr),
        MediaType("audio/mpeg", 16 * _MIB, _mp3),
        MediaType("audio/mp4", 16 * _MIB, _mp4),
        MediaType("audio/ogg", 16 * _MIB, _opus),
        MediaType("video/mp4", 16 * _MIB, _mp4),
        MediaType("video/3gpp", 16 * _MIB, _3gpp),
        MediaType("application/pdf", 100 * _MIB, _pdf),
        MediaType("application/msword", 100 * _MIB, _ole),
        MediaType("application/vnd.ms-excel", 100 * _MIB, _ole),
        MediaType("application/vnd.ms-powerpoint", 100 * _MIB, _ole),
        MediaType(f"{_OFFICE}.wordprocessingml.document", 100 * _MIB, _zip),
        MediaType(f"{_OFFICE}.spreadsheetml.sheet", 100 * _MIB, _zip),
        MediaType(f"{_OFFICE}.presentationml.presentation", 100 * _MIB, _zip),
        MediaType("text/plain", 100 * _MIB, _text),
    )
}

TO_SEND_AS_IMAGE = ("image/jpeg", "image/png")
IMAGE_BYTES_MAX = 5 * _MIB
