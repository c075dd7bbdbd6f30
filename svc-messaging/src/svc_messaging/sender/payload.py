"""The body of POST /{phone_number_id}/messages for a message row (Meta: messages/send-messages)."""

import json
from typing import Any

from kit.db import Row


def body_of(message: Row, *, meta_media_id: str | None) -> dict[str, Any]:
    """`message` has type, body, content, reply_to_wamid, id and the contact's wa_id, phone and user_id."""
    kind = message["type"]
    sent: dict[str, Any] = {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        **_recipient(message),
        "type": kind,
        kind: _content(message, meta_media_id),
        # Comes back in every status: settles a send whose answer was lost.
        "biz_opaque_callback_data": str(message["id"]),
    }
    if message["reply_to_wamid"]:
        sent["context"] = {"message_id": message["reply_to_wamid"]}
    return sent


def _recipient(message: Row) -> dict[str, str]:
    # With "+" Meta reads the digits as they are; without, it may put the business's country code before them.
    if message["wa_id"]:
        return {"to": f"+{message['wa_id']}"}
    if message["phone"]:
        return {"to": message["phone"]}
    return {"recipient": message["user_id"]}


def _content(message: Row, meta_media_id: str | None) -> dict[str, Any]:
    content = json.loads(message["content"] or "{}")
    match message["type"]:
        case "text":
            return {"body": message["body"], "preview_url": bool(content.get("previewUrl"))}
        case "template":
            return {
                "name": content["name"],
                "language": {"code": content["language"]},
                **({"components": content["components"]} if content.get("components") else {}),
            }
        case "image" | "video" | "audio" | "document" | "sticker":
            assert meta_media_id is not None
            caption = {"caption": message["body"]} if message["body"] else {}
            filename = {"filename": message["filename"]} if message["type"] == "document" else {}
            return {"id": meta_media_id, **caption, **filename}
        case other:
            raise AssertionError(f"a message of type {other} was queued")
