"""Reads the one file of a multipart/form-data body while it arrives: nothing is kept but the piece at hand."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, MultipartState, parse_options_header

from gateway.problems import ContentTypeUnsupported
from kit.errors import InvalidRequest, Violation

MEDIA_TYPE = "multipart/form-data"
PART = "file"

_MIME_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+")
_NAME_CHARACTERS_MAX = 80


@dataclass(frozen=True, slots=True)
class Description:
    """What is said of a file before its bytes."""

    mime_type: str
    filename: str


def mime_type(content_type: str) -> str:
    """The type without its parameters, empty where the header makes no sense."""
    found = content_type.partition(";")[0].strip().lower()
    return found if _MIME_TYPE.fullmatch(found) else ""


def filename(content_disposition: str) -> str:
    """The file name that a part or body carries; empty without one. Raises InvalidRequest."""
    _, options = parse_options_header(content_disposition)
    return _text(options.get(b"filename", b""), f"{PART}.filename")


class FileForm:
    """The parts of one body. `feed` it, and take what it gives: one Description, then bytes."""

    def __init__(self, content_type: str) -> None:
        """Raises ContentTypeUnsupported where the header has no boundary."""
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if not boundary:
            raise ContentTypeUnsupported("Content-Type", "must name the boundary of multipart/form-data")
        self._given: list[Description | bytes] = []
        self._headers: dict[str, str] = {}
        self._name, self._value = bytearray(), bytearray()
        self._has_file = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._headers.clear,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_part,
                    "on_part_data": self._on_data,
                },
            )
        except FormParserError as error:
            raise ContentTypeUnsupported("Content-Type", f"must name a usable boundary: {error}") from None

    def feed(self, piece: bytes) -> list[Description | bytes]:
        """What this piece of the body brings of the file. Raises InvalidRequest."""
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise _wrong("", "form.syntax", f"The body must be {MEDIA_TYPE}: {error}") from None
        given, self._given = self._given, []
        return given

    def end(self) -> None:
        """Raises InvalidRequest where the body ended too early, or without a file."""
        if self._parser.state != MultipartState.END:
            raise _wrong("", "form.syntax", f"The body must be {MEDIA_TYPE} with its closing boundary")
        if not self._has_file:
            raise _wrong(PART, "form.required", "must be given: the part of the form with the file")

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._name.decode("latin-1").lower()] = self._value.decode("latin-1")
        self._name.clear()
        self._value.clear()

    def _on_part(self) -> None:
        disposition = self._headers.get("content-disposition", "")
        _, options = parse_options_header(disposition)
        name = _text(options.get(b"name", b""), "")
        if name != PART:
            raise _wrong(name[:_NAME_CHARACTERS_MAX], "form.unknown_part", f"is no part of this form; only {PART} is")
        if self._has_file:
            raise _wrong(PART, "form.duplicate_part", "must be given once")
        self._has_file = True
        kind = mime_type(self._headers.get("content-type", ""))
        if not kind:
            raise _wrong(PART, "form.content_type", "must have a Content-Type of its own, such as image/png")
        self._given.append(Description(kind, filename(disposition)))

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        # Every part but the file has been refused by its headers.
        self._given.append(data[start:end])


async def read(pieces: AsyncIterator[bytes], content_type: str) -> AsyncIterator[Description | bytes]:
    """The file of a form: its description, then its bytes. Raises ContentTypeUnsupported or InvalidRequest."""
    form = FileForm(content_type)
    async for piece in pieces:
        for given in form.feed(piece):
            yield given
    form.end()


def _text(raw: bytes, field: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise _wrong(field, "form.utf8", "must be UTF-8") from None


def _wrong(field: str, rule: str, message: str) -> InvalidRequest:
    return InvalidRequest.of(Violation(field, rule, message))
