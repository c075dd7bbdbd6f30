"""What a message says: the columns type, body, content and media, as proto and as JSON."""

import json
import math
from typing import Any

from aerostic.messaging.v1 import message_pb2
from google.protobuf.struct_pb2 import Struct

from kit.db import Row

MEDIA_TYPES = frozenset(("image", "video", "audio", "document", "sticker"))

# Peers refuse protos of more than 100 levels, and a level of JSON takes up to three. Deeper values become text.
_LEVELS_MAX = 24
# A double holds every integer below it, and no other numbers have this many digits.
_INTEGERS_END = 2**53
_DIGITS_MAX = 16


def add_json(row: Row, data: dict[str, Any]) -> None:
    """Put the content where Message has it: text, media, template or content."""
    kind, content = row["type"], row["content"]
    if kind == "text":
        data["text"] = {"previewUrl": _has_preview(content)}
        if row["body"]:
            data["text"]["body"] = row["body"]
    elif kind in MEDIA_TYPES and row["media_state"]:
        data["media"] = _media_json(row)
    elif kind == "template" and row["direction"] == "outbound":
        sent = parsed(content)
        data["template"] = {"name": sent["name"], "language": sent["language"], "components": _components(sent)}
    elif content is not None:
        data["content"] = _free(kind, content)


def add_proto(row: Row, message: message_pb2.Message) -> None:
    """Put the content where Message has it: text, media, template or content."""
    kind, content = row["type"], row["content"]
    if kind == "text":
        message.text.CopyFrom(message_pb2.Text(body=row["body"], preview_url=_has_preview(content)))
    elif kind in MEDIA_TYPES and row["media_state"]:
        message.media.CopyFrom(_media_proto(row))
    elif kind == "template" and row["direction"] == "outbound":
        sent = parsed(content)
        message.template.CopyFrom(message_pb2.Template(name=sent["name"], language=sent["language"]))
        for component in _components(sent):
            message.template.components.add().update(component)
    elif content is not None:
        message.content.CopyFrom(Struct())
        message.content.update(_free(kind, content))


def parsed(text: str) -> dict[str, Any]:
    """An object that PostgreSQL gave as text. Numbers that no double holds become text."""
    value: dict[str, Any] = json.loads(text, parse_int=_integer, parse_float=_number)
    return value


def _has_preview(content: str | None) -> bool:
    return bool(content and parsed(content).get("previewUrl"))


def _media_json(row: Row) -> dict[str, Any]:
    data: dict[str, Any] = {"mediaId": row["media_id"], "sizeBytes": str(row["media_size_bytes"])}
    texts = (
        ("mimeType", "media_mime_type"),
        ("caption", "body"),
        ("filename", "media_filename"),
        ("state", "media_state"),
        ("failure", "media_failure"),
    )
    data.update((key, row[column]) for key, column in texts if row[column])
    return data


def _media_proto(row: Row) -> message_pb2.MediaContent:
    return message_pb2.MediaContent(
        media_id=str(row["media_id"]),
        mime_type=row["media_mime_type"],
        caption=row["body"],
        filename=row["media_filename"],
        state=row["media_state"],
        size_bytes=row["media_size_bytes"],
        failure=row["media_failure"],
    )


def _components(sent: dict[str, Any]) -> list[dict[str, Any]]:
    return [_within(component, _LEVELS_MAX) for component in sent.get("components") or []]


def _free(kind: str, text: str) -> dict[str, Any]:
    """Meta's own object. Of some types it sends a list, which stands here under the type's name."""
    content = _within(parsed(text), _LEVELS_MAX)
    return content if isinstance(content, dict) else {kind: content}


def _within(value: Any, levels: int) -> Any:
    """The value, with what lies deeper than so many levels as the text of its JSON."""
    if not isinstance(value, dict | list):
        return value
    if levels == 0:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if isinstance(value, dict):
        return {key: _within(each, levels - 1) for key, each in value.items()}
    return [_within(each, levels - 1) for each in value]


def _integer(digits: str) -> int | float | str:
    return int(digits) if len(digits) < _DIGITS_MAX else _number(digits)


def _number(digits: str) -> int | float | str:
    """As kit.proto_json prints the double that a proto makes of it."""
    number = float(digits)
    if not math.isfinite(number):
        return digits
    return int(number) if number.is_integer() and abs(number) < _INTEGERS_END else number
