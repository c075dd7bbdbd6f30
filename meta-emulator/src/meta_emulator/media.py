"""Media the platform holds: what is accepted, what a message may refer to, and signed 5-minute URLs."""

import base64
import hashlib
import hmac
from dataclasses import dataclass

from meta_emulator import ids
from meta_emulator.emulator import Emulator
from meta_emulator.graph.errors import GraphError, invalid_parameter
from meta_emulator.model import MEDIA_TYPES, Json, Media, Number

UPLOAD_DAYS, INBOUND_DAYS = 30, 7
BYTES_MAX = 100 * 1024 * 1024
_DAY = 86400.0
_URL_SECONDS = 300
_KB, _MB = 1024, 1024 * 1024

_DOCUMENTS = (
    "text/plain", "application/pdf", "application/msword", "application/vnd.ms-excel",
    "application/vnd.ms-powerpoint",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation",
)  # fmt: skip
_LIMITS: dict[str, tuple[tuple[str, ...], int]] = {
    "image": (("image/jpeg", "image/png"), 5 * _MB),
    "video": (("video/mp4", "video/3gpp"), 16 * _MB),
    "audio": (("audio/aac", "audio/amr", "audio/mpeg", "audio/mp4", "audio/ogg"), 16 * _MB),
    "sticker": (("image/webp",), 500 * _KB),
    "document": (_DOCUMENTS, BYTES_MAX),
}
UPLOADABLE = tuple(mime for mimes, _ in _LIMITS.values() for mime in mimes)

_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"GIF8", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (0, b"%PDF-", "application/pdf"),
    (0, b"OggS", "audio/ogg"),
    (0, b"#!AMR", "audio/amr"),
    (0, b"ID3", "audio/mpeg"),
    (4, b"ftyp", "video/mp4"),
    (0, b"PK\x03\x04", "application/zip"),
)


@dataclass(frozen=True, kw_only=True)
class NewMedia:
    content: bytes
    mime_type: str
    filename: str = ""
    days: int = UPLOAD_DAYS


def store(em: Emulator, number: Number, new: NewMedia) -> Media:
    media = Media(
        id=ids.object_id(em.random, em.world.media),
        waba_id=number.waba_id,
        number_id=number.id,
        mime_type=new.mime_type,
        sha256=hashlib.sha256(new.content).hexdigest(),
        size=len(new.content),
        expires_at=em.now() + new.days * _DAY,
        detected_mime_type=detect(new.content),
        filename=new.filename,
    )
    em.media_bytes.put(media.id, new.content)
    em.world.media[media.id] = media
    return media


def find(em: Emulator, media_id: str) -> Media | None:
    """None for unknown, deleted and expired ids alike."""
    found = em.world.media.get(media_id)
    return found if found is not None and em.now() < found.expires_at else None


def delete(em: Emulator, media: Media) -> None:
    em.world.media.pop(media.id, None)
    em.media_bytes.delete(media.id)


def detect(content: bytes) -> str:
    """The MIME type the first bytes tell; empty when they tell nothing."""
    for offset, magic, mime in _SIGNATURES:
        if content[offset : offset + len(magic)] == magic:
            return mime
    return ""


def plain_type(mime_type: str) -> str:
    """`audio/ogg; codecs=opus` is audio/ogg."""
    return mime_type.partition(";")[0].strip().lower()


def size_limit(mime_type: str) -> int:
    return max((most for mimes, most in _LIMITS.values() if plain_type(mime_type) in mimes), default=BYTES_MAX)


def require_usable(em: Emulator, number: Number, message_type: str, body: Json) -> None:
    """A media id of a send must be one of this business's own."""
    if message_type in MEDIA_TYPES:
        _require_id(em, number, message_type, body[message_type])
    if message_type == "interactive":
        require_usable_header(em, number, body["interactive"])


def require_usable_header(em: Emulator, number: Number, holder: Json) -> None:
    header = holder.get("header") or {}
    if header.get("type") in MEDIA_TYPES:
        _require_id(em, number, header["type"], header[header["type"]])


def shown_id(message_type: str, body: Json, rendered: Json | None) -> str:
    """The media a phone shows with the message, when it was given by id."""
    content = body.get(message_type)
    if message_type in MEDIA_TYPES and isinstance(content, dict):
        return str(content.get("id", ""))
    holder = rendered if rendered is not None else content
    header = holder.get("header") or {} if isinstance(holder, dict) else {}
    source = header.get(header.get("type", ""), {}) if header.get("type") in MEDIA_TYPES else {}
    return str(source.get("id", "")) if isinstance(source, dict) else ""


def mismatch(em: Emulator, message_type: str, body: Json) -> str:
    """Why the media cannot be processed as this type; empty when it can, or when it comes by link."""
    media_id = body[message_type].get("id")
    found = em.world.media.get(media_id) if media_id else None
    return why_unusable(message_type, found) if found is not None else ""


def why_unusable(message_type: str, media: Media) -> str:
    mimes, most = _LIMITS[message_type]
    declared = plain_type(media.mime_type)
    if message_type != "document" and declared not in mimes:
        return f"Unsupported {message_type} mime type {declared}. Please use one of {', '.join(mimes)}."
    if media.size > most:
        return f"{message_type} file size {media.size} exceeds the limit of {most} bytes."
    is_picture = declared.startswith("image/")
    if is_picture and media.detected_mime_type and media.detected_mime_type != declared:
        return f"{message_type} file of type {media.detected_mime_type} was uploaded as {declared}."
    if is_picture and not media.detected_mime_type:
        return f"{message_type} file could not be read as {declared}."
    if message_type in {"audio", "video"} and media.detected_mime_type.startswith(("image/", "application/")):
        return f"{message_type} file of type {media.detected_mime_type} was uploaded as {declared}."
    return ""


def base64_digest(media: Media) -> str:
    """How a webhook prints sha256; GET /{media_id} prints hex."""
    return base64.b64encode(bytes.fromhex(media.sha256)).decode("ascii")


def url(em: Emulator, media: Media, base: str) -> str:
    """A download URL good for five minutes, and only together with a bearer token."""
    expires = int(em.now()) + _URL_SECONDS
    proof = _url_hash(em, media.id, expires)
    return f"{base}/whatsapp_business/attachments/?mid={media.id}&ext={expires}&hash={proof}"


def by_url(em: Emulator, media_id: str, expires: str, proof: str) -> Media | None:
    """The media behind a URL; None when it is forged or too old."""
    if not expires.isdigit() or int(expires) <= em.now():
        return None
    if not hmac.compare_digest(_url_hash(em, media_id, int(expires)).encode(), proof.encode()):
        return None
    return find(em, media_id)


def _url_hash(em: Emulator, media_id: str, expires: int) -> str:
    secret = em.settings.app_secret.get_secret_value().encode()
    return hmac.new(secret, f"media:{media_id}:{expires}".encode(), hashlib.sha256).hexdigest()


def _require_id(em: Emulator, number: Number, message_type: str, source: Json) -> None:
    media_id = source.get("id")
    if media_id is None:
        return
    found = find(em, media_id) if isinstance(media_id, str) else None
    if found is None or found.waba_id != number.waba_id:
        details = f"Param {message_type}['id'] is not a valid WhatsApp business account media attachment ID."
        raise invalid_parameter(details)


def require_uploadable(mime_type: str, size: int) -> None:
    """Refuse an upload by type or size."""
    if plain_type(mime_type) not in UPLOADABLE:
        listed = ", ".join(UPLOADABLE)
        text = f"(#100) Param file must be a file with one of the following types: {listed}."
        raise GraphError(100, message=f"{text} Received file of type '{mime_type}'.")
    if size > size_limit(mime_type):
        raise GraphError(131053, details=f"File size {size} exceeds the limit of {size_limit(mime_type)} bytes.")
    if size == 0:
        raise GraphError(131053, details="The file is empty.")
