"""Interactive messages: reply buttons, lists, link and location buttons (whatsapp-cloud-api.md 1.4, 1.5).

Kinds that need a catalogue, a flow or calling are refused: this stand-in has none of them to refer to.
"""

from meta_emulator.graph.errors import GraphError, invalid_parameter
from meta_emulator.graph.params import Param

_BODY_MAX = 1024
_SMALL_TEXT_MAX = 60
_TITLE_MAX = 20
_ROWS_MAX = 10
_MEDIA_HEADERS = ("image", "video", "document")
_UNSUPPORTED = (
    "flow", "product", "product_list", "catalog_message", "carousel", "address_message", "call_permission_request",
    "voice_call",
)  # fmt: skip
_KINDS = ("button", "list", "cta_url", "location_request_message", "request_contact_info")


def check_interactive(interactive: Param) -> None:
    kind = interactive.text("type")
    if kind in _UNSUPPORTED:
        raise GraphError(131009, details=f"Interactive type {kind} needs an asset this account does not have.")
    if kind not in _KINDS:
        interactive.one_of("type", _KINDS)
    interactive.only("type", "header", "body", "footer", "action")
    body = interactive.child("body")
    body.only("text")
    body.text("text", _BODY_MAX)
    if interactive.has("footer"):
        footer = interactive.child("footer")
        footer.only("text")
        footer.text("text", _SMALL_TEXT_MAX)
    if interactive.has("header"):
        _check_header(interactive.child("header"), kind)
    action = interactive.child("action")
    match kind:
        case "button":
            _check_buttons(action)
        case "list":
            _check_list(action)
        case "cta_url":
            _check_cta_url(action)
        case "location_request_message":
            action.only("name")
            action.one_of("name", ("send_location",))
        case "request_contact_info":
            action.only("name")
            action.one_of("name", ("request_contact_info",))


def _check_header(header: Param, kind: str) -> None:
    allowed = {"button": ("text", *_MEDIA_HEADERS), "cta_url": ("text", *_MEDIA_HEADERS), "list": ("text",)}.get(kind)
    if allowed is None:
        raise invalid_parameter(f"Param {header.path} is not supported for interactive type {kind}.")
    header_type = header.one_of("type", allowed)
    header.only("type", header_type)
    if header_type == "text":
        header.text("text", _SMALL_TEXT_MAX)
        return
    media = header.child(header_type)
    media.only("id", "link", "filename")
    if media.has("id") == media.has("link"):
        raise GraphError(131009, details=f"Exactly one of {media.name('id')} or {media.name('link')} is required.")


def _check_buttons(action: Param) -> None:
    action.only("buttons")
    seen_ids, seen_titles = set(), set()
    for button in action.items("buttons", 1, 3):
        button.only("type", "reply")
        button.one_of("type", ("reply",))
        reply = button.child("reply")
        reply.only("id", "title")
        seen_ids.add(reply.text("id", 256))
        seen_titles.add(reply.text("title", _TITLE_MAX))
    if not len(seen_ids) == len(seen_titles) == len(action.items("buttons", 1, 3)):
        raise GraphError(131009, details=f"Ids and titles of {action.name('buttons')} must be unique.")


def _check_list(action: Param) -> None:
    action.only("button", "sections")
    action.text("button", _TITLE_MAX)
    sections = action.items("sections", 1, 10)
    row_ids: list[str] = []
    for section in sections:
        section.only("title", "rows")
        if len(sections) > 1:
            section.text("title", 24)
        else:
            section.text_if_any("title", 24)
        for row in section.items("rows", 1, _ROWS_MAX):
            row.only("id", "title", "description")
            row_ids.append(row.text("id", 200))
            row.text("title", 24)
            row.text_if_any("description", 72)
    if len(row_ids) > _ROWS_MAX:
        raise GraphError(131009, details=f"A list has at most {_ROWS_MAX} rows in all its sections.")
    if len(set(row_ids)) != len(row_ids):
        raise GraphError(131009, details="Row ids of a list must be unique.")


def _check_cta_url(action: Param) -> None:
    action.only("name", "parameters")
    action.one_of("name", ("cta_url",))
    parameters = action.child("parameters")
    parameters.only("display_text", "url")
    parameters.text("display_text", _TITLE_MAX)
    if not parameters.text("url").lower().startswith(("http://", "https://")):
        raise invalid_parameter(f"Param {parameters.name('url')} is not a valid URI.")
