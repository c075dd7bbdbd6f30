"""The content objects of a send request, one check per message type (whatsapp-cloud-api.md 1.3)."""

import re
from collections.abc import Callable

from meta_emulator.graph.errors import GraphError, invalid_parameter
from meta_emulator.graph.interactive import check_interactive
from meta_emulator.graph.params import Param

CAPTION_MAX = 1024
_TEXT_MAX = 4096
_CONTACTS_MAX = 257
_URL_MAX = 2048
_WEB_URL = re.compile(r"https?://[^\s/]+(?:/\S*)?", re.IGNORECASE)
_BIRTHDAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def check_text(text: Param) -> None:
    text.only("body", "preview_url")
    text.text("body", _TEXT_MAX)
    text.flag("preview_url")


def check_media_source(media: Param) -> None:
    """Either an uploaded id or a link to fetch, not both."""
    if media.has("id") == media.has("link"):
        names = f"{media.name('id')} or {media.name('link')}"
        raise GraphError(131008 if not media.has("id") else 131009, details=f"Exactly one of {names} is required.")
    if media.has("link"):
        link = media.text("link", _URL_MAX)
        if not _WEB_URL.fullmatch(link):
            raise invalid_parameter(f"Param {media.name('link')} is not a valid URI.")
    else:
        media.text("id")


def check_template(template: Param) -> None:
    """Shape only; whether the template exists and fits is step 8 (`template_sends`)."""
    template.only("name", "language", "components", "namespace")
    template.text("name", 512)
    language = template.child("language")
    language.only("code", "policy")
    language.text("code")
    if not template.has("components"):
        return
    for component in template.items("components", 0, 20):
        component.only("type", "sub_type", "index", "parameters", "cards")
        component.text("type")
        if component.has("parameters"):
            for parameter in component.items("parameters", 0, 100):
                parameter.text("type")


def _captioned(media: Param) -> None:
    media.only("id", "link", "caption")
    check_media_source(media)
    media.text_if_any("caption", CAPTION_MAX)


def _audio(audio: Param) -> None:
    audio.only("id", "link", "voice")
    check_media_source(audio)
    audio.flag("voice")


def _document(document: Param) -> None:
    document.only("id", "link", "caption", "filename")
    check_media_source(document)
    document.text_if_any("caption", CAPTION_MAX)
    document.text_if_any("filename", 240)


def _sticker(sticker: Param) -> None:
    sticker.only("id", "link")
    check_media_source(sticker)


def _location(location: Param) -> None:
    location.only("latitude", "longitude", "name", "address")
    location.number("latitude", -90, 90)
    location.number("longitude", -180, 180)
    location.text_if_any("name", 1000)
    location.text_if_any("address", 1000)


def _reaction(reaction: Param) -> None:
    reaction.only("message_id", "emoji")
    reaction.text("message_id")
    reaction.need("emoji")
    reaction.text("emoji", 32, may_be_empty=True)


def check_contacts(root: Param) -> None:
    for contact in root.items("contacts", 1, _CONTACTS_MAX):
        contact.only("addresses", "birthday", "emails", "name", "org", "phones", "urls")
        name = contact.child("name")
        name.only("formatted_name", "first_name", "last_name", "middle_name", "suffix", "prefix")
        name.text("formatted_name")
        for part in ("first_name", "last_name", "middle_name", "suffix", "prefix"):
            name.text_if_any(part)
        if contact.has("birthday") and not _BIRTHDAY.fullmatch(contact.text("birthday")):
            raise invalid_parameter(f"Param {contact.name('birthday')} must be a date as YYYY-MM-DD.")
        for part, known in _CONTACT_LISTS.items():
            if contact.has(part):
                for item in contact.items(part, 0, 50):
                    item.only(*known)
                    for key in known:
                        item.text_if_any(key)
        if contact.has("org"):
            org = contact.child("org")
            org.only("company", "department", "title")


_CONTACT_LISTS = {
    "addresses": ("street", "city", "state", "zip", "country", "country_code", "type"),
    "emails": ("email", "type"),
    "phones": ("phone", "type", "wa_id"),
    "urls": ("url", "type"),
}

CHECKS: dict[str, Callable[[Param], None]] = {
    "text": check_text,
    "image": _captioned,
    "video": _captioned,
    "audio": _audio,
    "document": _document,
    "sticker": _sticker,
    "location": _location,
    "reaction": _reaction,
    "interactive": check_interactive,
    "template": check_template,
}


def check(message_type: str, root: Param) -> None:
    """Refuse a content object that Meta would refuse; `root` is the whole request."""
    if message_type == "contacts":
        check_contacts(root)
        return
    CHECKS[message_type](root.child(message_type))


TYPES = (*CHECKS, "contacts")
