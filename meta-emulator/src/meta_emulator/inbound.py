"""A customer writes to the business: fill the message in, keep it, open the window, send the webhook."""

import base64
import binascii
from dataclasses import dataclass

from meta_emulator import customers, media, threads, wamid
from meta_emulator.emulator import Emulator
from meta_emulator.media import NewMedia
from meta_emulator.model import MEDIA_TYPES, Customer, Json, Message, Number
from meta_emulator.webhooks import delivery, payloads

_USUAL_MIME_TYPES = {
    "image": "image/jpeg", "video": "video/mp4", "audio": "audio/ogg; codecs=opus",
    "document": "application/octet-stream", "sticker": "image/webp",
}  # fmt: skip
_OBJECTS = {"text": dict, "location": dict, "contacts": list, "button": dict, "interactive": dict, "reaction": dict}
_KNOWN = {*_OBJECTS, *MEDIA_TYPES, "order", "system", "request_welcome", "unsupported"}


class Malformed(Exception):
    """The message is not shaped as an item of Meta's `messages[]`."""

    def __init__(self, field: str, rule: str, message: str) -> None:
        self.field, self.rule = field, rule
        super().__init__(message)


@dataclass(frozen=True)
class Receipt:
    message: Message
    is_delivering: bool


def receive(em: Emulator, number: Number, customer: Customer, given: Json, base_url: str) -> Receipt:
    """`given` is as in `messages[]`, without what Meta adds: from, id, timestamp, media ids. Those may be given."""
    message_type = given.get("type")
    if not isinstance(message_type, str) or not message_type:
        raise Malformed("message.type", "required", "message.type must name the type, such as text or image.")
    item, media_id = _filled(em, number, given, message_type, base_url)
    sender: Json = {}
    if customer.shares_phone:
        sender["from"] = customer.digits
    sender["from_user_id"] = customers.user_id_for(em, customer, number.waba_id)
    own_id = item.pop("id", None) or wamid.inbound(customer.digits, em.random)
    timestamp = str(item.pop("timestamp", None) or int(em.now()))
    if not isinstance(own_id, str) or not timestamp.isdigit():
        raise Malformed("message", "type", "message.id must be text and message.timestamp seconds since the epoch.")
    body = {**sender, "id": own_id, "timestamp": timestamp, "type": message_type} | item
    chat = em.chat(number, customer)
    chat.last_inbound_at = max(chat.last_inbound_at, float(timestamp))
    message = Message(
        wamid=own_id,
        number_id=number.id,
        customer_id=customer.id,
        outbound=False,
        type=message_type,
        body=body,
        time=em.now(),
        quoted=str(body.get("context", {}).get("id", "")),
        media_id=media_id,
    )
    if own_id not in em.world.messages:
        threads.append(em, message)
    em.metrics.add("meta_emulator_inbound_total", type=message_type if message_type in _KNOWN else "other")
    if em.behaviour(number).inbound_counts_in_throughput:
        em.limits.number(number.id).take(em.now())
    is_delivering = delivery.emit(em, number, payloads.inbound_value(number, customer, body), [own_id])
    return Receipt(message, is_delivering)


def _filled(em: Emulator, number: Number, given: Json, message_type: str, base_url: str) -> tuple[Json, str]:
    item = {key: value for key, value in given.items() if key not in {"type", "from", "from_user_id"}}
    media_id = ""
    wanted = _OBJECTS.get(message_type) or (dict if message_type in MEDIA_TYPES else None)
    if wanted is not None and not isinstance(item.get(message_type), wanted):
        kind = "object" if wanted is dict else "array"
        raise Malformed(f"message.{message_type}", "required", f"message.{message_type} must be a JSON {kind}.")
    if message_type == "text" and not isinstance(item["text"].get("body"), str):
        raise Malformed("message.text.body", "required", "message.text.body must be text.")
    if message_type in MEDIA_TYPES:
        item[message_type], media_id = _media(em, number, message_type, item[message_type], base_url)
    if "context" in item:
        item["context"] = _context(em, number, item["context"])
    return item, media_id


def _context(em: Emulator, number: Number, context: object) -> Json:
    """A reply names the quoted message; Meta adds whose it was."""
    if not isinstance(context, dict):
        raise Malformed("message.context", "type", "message.context must be a JSON object.")
    quoted = em.world.messages.get(str(context.get("id", "")))
    if quoted is None or "from" in context:
        return context
    author = number.digits if quoted.outbound else em.customer_of(quoted).digits
    return {"from": author, **context}


def _media(em: Emulator, number: Number, message_type: str, content: Json, base_url: str) -> tuple[Json, str]:
    """`data` (base64) is stored, an `id` must be known; type, digest and URL are added as webhooks have them."""
    place = f"message.{message_type}"
    fields = {key: value for key, value in content.items() if key != "data"}
    if "data" in content:
        stored = media.store(em, number, _new_media(message_type, content, f"{place}.data"))
    else:
        media_id = content.get("id")
        known = media.find(em, media_id) if isinstance(media_id, str) else None
        if known is None:
            raise Malformed(place, "media", f"{place} needs data (base64), or the id of media stored before.")
        stored = known
    filled = {
        "mime_type": stored.mime_type,
        "sha256": media.base64_digest(stored),
        "id": stored.id,
        "url": media.url(em, stored, base_url),
    }
    if message_type == "audio":
        filled["voice"] = content.get("voice", True)
    if message_type == "sticker":
        filled["animated"] = content.get("animated", False)
    return {**fields, **filled}, stored.id


def _new_media(message_type: str, content: Json, place: str) -> NewMedia:
    try:
        data = base64.b64decode(str(content["data"]).partition(";base64,")[2] or str(content["data"]), validate=True)
    except (binascii.Error, ValueError) as wrong:
        raise Malformed(place, "base64", f"{place} must be base64: {wrong}.") from wrong
    if not 0 < len(data) <= media.BYTES_MAX:
        raise Malformed(place, "size", f"{place} must hold 1 to {media.BYTES_MAX} bytes.")
    detected = media.detect(data)
    declared = content.get("mime_type")
    mime_type = declared if isinstance(declared, str) else detected or _USUAL_MIME_TYPES[message_type]
    filename = content.get("filename")
    return NewMedia(
        content=data,
        mime_type=mime_type,
        filename=filename if isinstance(filename, str) else "",
        days=media.INBOUND_DAYS,
    )
