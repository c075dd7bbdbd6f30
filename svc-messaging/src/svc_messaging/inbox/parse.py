"""Webhook bodies to items: tolerant of everything that Meta may add, and never failing on a strange shape.

Every item of every change of every entry is taken on its own; one that makes no sense becomes Unusable with the reason
and does not touch its neighbours (webhooks: reference/messages).
"""

import hashlib
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec
import structlog

from kit.bus import as_text
from svc_messaging import statuses
from svc_messaging.inbox.items import File, Item, Sender, Told, Unusable, Written
from svc_messaging.meta_errors import describe
from svc_messaging.statuses import Json

log = structlog.get_logger()

FILE_TYPES = frozenset({"image", "video", "audio", "document", "sticker"})
_BODY_CHARACTERS_MAX = 65_536
_LEVELS_MAX = 100
"""Meta nests some ten levels."""


def parse(body: bytes, received_at: datetime) -> Iterator[Written | Told | Unusable]:
    """The items of a verified body, in order."""
    decoded = _decode(body)
    if not isinstance(decoded, dict) or not isinstance(decoded.get("entry"), list):
        key = f"body:{hashlib.sha256(body).hexdigest()}"
        text = as_text(body).replace("\0", "\ufffd")
        yield Unusable(
            "malformed", "The body is no JSON object with a list of entries, or too deep.", text, received_at, key=key
        )
        return
    for entry in decoded["entry"]:
        changes = _list(_dict(entry).get("changes"))
        if not changes:
            raw = entry if isinstance(entry, dict) else {"entry": entry}
            yield unusable("malformed", "The entry has no list of changes.", Item("", "", raw, received_at))
        for change in changes:
            yield from _change(_dict(entry), _dict(change), received_at)


def of_change(change: Json, received_at: datetime) -> Iterator[Written | Told | Unusable]:
    """The items of a change that was set aside."""
    return _change({}, change, received_at)


def of_parked(body: str, number: str, received_at: datetime) -> Iterator[Written | Told | Unusable]:
    """The items of whatever was set aside: a whole body, an entry, a change, or a single item of a number."""
    raw = _dict(_decode(body.encode()))
    if not raw or "entry" in raw:
        return parse(body.encode(), received_at)
    if "changes" in raw:
        return parse(json.dumps({"entry": [raw]}).encode(), received_at)
    if "field" in raw:
        return of_change(raw, received_at)
    kind = "statuses" if "status" in raw else "messages"
    return of_change(
        {"field": "messages", "value": {"metadata": {"phone_number_id": number}, kind: [raw]}}, received_at
    )


def _change(entry: Json, change: Json, received_at: datetime) -> Iterator[Written | Told | Unusable]:
    value = _dict(change.get("value"))
    number = _text(_dict(value.get("metadata")).get("phone_number_id"))
    messages, told = _list(value.get("messages")), _list(value.get("statuses"))
    if change.get("field") != "messages" or not (messages or told):
        detail = f"Nothing handles the field {_text(change.get('field'))!r} yet."
        if change.get("field") == "messages":
            detail = f"No message and no status: {describe(_dict(_first(value.get('errors')))).detail}"
        raw = {"id": entry.get("id"), "time": entry.get("time"), **change}
        yield unusable("unknown_field", detail, Item(number, "", raw, received_at))
        return
    people = _people(_list(value.get("contacts"))) if messages else {}
    for raw in messages:
        yield _one(_written, _dict(raw), number, received_at, people)
    for raw in told:
        yield _one(_told, _dict(raw), number, received_at, people)


def _one(read: Any, raw: Json, number: str, received_at: datetime, people: dict[str, Json]) -> Any:
    item = Item(number, _text(raw.get("id")), raw, received_at)
    if not number:
        return unusable("malformed", "metadata.phone_number_id is missing.", item)
    if not item.wamid:
        return unusable("malformed", "The id is missing.", item)
    try:
        return read(item, people)
    except Exception as error:
        # A mistake of ours. It must not stop everybody's webhooks: it is shown, and the item waits for its correction.
        log.exception("webhook_item_not_read", wamid=item.wamid)
        return of_poison(unusable("malformed", "", item), f"{type(error).__name__}: {error}"[:2000])


def _written(item: Item, people: dict[str, Json]) -> Written | Unusable:
    raw, kind = item.raw, _text(item.raw.get("type")) or "unsupported"
    content = raw.get(kind)
    own, context = _dict(content), _dict(raw.get("context"))
    wa_id = _text(raw.get("from"))
    user_id = _text(raw.get("from_user_id")) or (_text(own.get("previous_user_id")) if kind == "system" else "")
    person = people.get(wa_id) or people.get(user_id) or {}
    sender = Sender(wa_id or _text(person.get("wa_id")), user_id or _text(person.get("user_id")), *_names(person))
    if not sender.identities:
        return unusable("malformed", "Neither from nor from_user_id is there.", item)
    reacts_to = _text(own.get("message_id")) if kind == "reaction" else ""
    return Written(
        number=item.number,
        wamid=item.wamid,
        raw=raw,
        received_at=item.received_at,
        sender=sender,
        type=kind[:64],
        body=_body(kind, own),
        content=_kept(kind, content, raw),
        sent_at=statuses.moment(raw.get("timestamp"), item.received_at),
        file=_file(own) if kind in FILE_TYPES else None,
        reply_to_wamid=_text(context.get("id")),
        emoji=_text(own.get("emoji")) if kind == "reaction" else "",
        reacts_to_wamid=reacts_to,
        becomes=_becomes(own) if kind == "system" else None,
    )


def _told(item: Item, _people: dict[str, Json]) -> Told | Unusable:
    try:
        reached = statuses.read(item.raw, item.received_at)
    except statuses.StatusUnknown as error:
        return unusable("unknown_field", str(error), item)
    return Told(item.number, item.wamid, item.raw, item.received_at, reached)


def unusable(reason: str, detail: str, item: Item) -> Unusable:
    """An item set aside. Its key is what it says, since Meta repeats items byte for byte."""
    body = json.dumps(item.raw, ensure_ascii=False, sort_keys=True)
    key = hashlib.sha256(f"{item.number}\n{body}".encode()).hexdigest()
    return Unusable(reason, detail, body, item.received_at, item.number, item.wamid, f"{reason}:{key}")


def of_unknown_number(item: Written | Told) -> Unusable:
    """Kept as a change of its own, so that it can be taken in when somebody connects the number."""
    value: Json = {"metadata": {"phone_number_id": item.number}}
    if isinstance(item, Written):
        profile = {"name": item.sender.name, "username": item.sender.username}
        person = {"wa_id": item.sender.wa_id, "user_id": item.sender.user_id, "profile": profile}
        value |= {"contacts": [person], "messages": [item.raw]}
    else:
        value |= {"statuses": [item.raw]}
    whole = Item(item.number, item.wamid, {"field": "messages", "value": value}, item.received_at)
    return unusable("unknown_number", f"No workspace has connected the number {item.number}.", whole)


def of_unknown_message(item: Told) -> Unusable:
    detail = "No message here has this id of Meta; it is applied when one gets it."
    return unusable("unknown_message", detail, item)


def of_poison(item: Written | Told | Unusable, detail: str) -> Unusable:
    if isinstance(item, Unusable):
        return msgspec.structs.replace(item, reason="poison", detail=detail, key=f"poison:{item.key}")
    return unusable("poison", detail, item)


def _people(contacts: list[Any]) -> dict[str, Json]:
    """contacts[] by each of their ids. It is not aligned with messages[], and may lack anybody."""
    found: dict[str, Json] = {}
    for contact in map(_dict, contacts):
        for key in (_text(contact.get("wa_id")), _text(contact.get("user_id"))):
            if key:
                found[key] = contact
    return found


def _names(person: Json) -> tuple[str, str]:
    profile = _dict(person.get("profile"))
    return _text(profile.get("name"))[:512], _text(profile.get("username"))[:128]


def _body(kind: str, own: Json) -> str:
    """The words of a message, for lists and search."""
    texts = {
        "text": own.get("body"),
        "button": own.get("text"),
        "system": own.get("body"),
        "interactive": _dict(own.get("button_reply") or own.get("list_reply")).get("title"),
        "reaction": own.get("emoji"),
    }
    return _text(texts.get(kind, own.get("caption")))[:_BODY_CHARACTERS_MAX]


def _kept(kind: str, content: Any, raw: Json) -> Any:
    """Content beyond the words: Meta's own object under the type's name, and what came with it."""
    if kind == "text" or kind in FILE_TYPES:
        return {"referral": raw["referral"]} if "referral" in raw else None
    extra = {key: raw[key] for key in ("errors", "referral", "identity", "unsupported") if key in raw and key != kind}
    if isinstance(content, dict):
        return {**content, **extra}
    return {kind: content, **extra} if content is not None else (extra or None)


def _file(own: Json) -> File | None:
    meta_id = _text(own.get("id"))
    if not meta_id:
        return None
    mime_type = _text(own.get("mime_type"))[:127] or "application/octet-stream"
    return File(meta_id, mime_type, _text(own.get("filename"))[:240])


def _becomes(own: Json) -> Sender | None:
    """Whom a customer's change of number or id leads to."""
    wa_id, user_id = _text(own.get("wa_id") or own.get("new_wa_id")), _text(own.get("user_id"))
    return Sender(wa_id, user_id) if wa_id or user_id else None


def _decode(body: bytes) -> Any:
    """PostgreSQL keeps neither NUL nor half a surrogate pair, so neither leaves here; nor does what is nested so deep
    that writing it would fail.
    """
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        decoded = _decode_slowly(body)
    if body.count(b"{") + body.count(b"[") > _LEVELS_MAX and _is_deeper(decoded, _LEVELS_MAX):
        return None
    if b"\\u" in body and (b"\\u0000" in body or b"\\ud" in body.lower()):
        return _clean(decoded)
    return decoded


def _is_deeper(value: Any, levels: int) -> bool:
    rank = [value]
    for _ in range(levels):
        containers = [each for each in rank if isinstance(each, dict | list)]
        rank = [below for each in containers for below in (each.values() if isinstance(each, dict) else each)]
    return any(isinstance(each, dict | list) for each in rank)


def _decode_slowly(body: bytes) -> Any:
    """The standard decoder takes half surrogate pairs, which are no reason to lose a message."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_clean(key): _clean(each) for key, each in value.items()}
    return [_clean(each) for each in value] if isinstance(value, list) else value


def _dict(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
