"""A send request, checked in full (step 4) and reduced to what the next steps need."""

from dataclasses import dataclass

from meta_emulator import phones
from meta_emulator.graph import content
from meta_emulator.graph.errors import GraphError, invalid_parameter
from meta_emulator.graph.params import Param
from meta_emulator.model import Json

_CALLBACK_DATA_MAX = 512
_KNOWN = (
    "messaging_product", "recipient_type", "to", "recipient", "type", "context", "biz_opaque_callback_data",
    "recipient_identity_key_hash", "access_token",
)  # fmt: skip


@dataclass(frozen=True)
class Draft:
    type: str
    body: Json
    content: Json | list[Json]
    to: str
    to_digits: str
    user_id: str
    quoted: str
    callback_data: str | None


def parse(params: Json) -> Draft:
    """Raises GraphError 100, 131008, 131009 or 131051 for what Meta refuses."""
    require_product(params)
    root = Param({key: value for key, value in params.items() if key != "appsecret_proof"}, "")
    if root.has("recipient_type") and root.text("recipient_type") == "group":
        raise GraphError(131009, details="Groups are not available for this phone number.")
    if root.has("recipient_type"):
        root.one_of("recipient_type", ("individual",))
    message_type = _type(root)
    for key in root.value:
        if key not in {*_KNOWN, message_type}:
            raise invalid_parameter(f'Unexpected key "{key}" on the request.')
    to, digits, user_id = _recipient(root)
    content.check(message_type, root)
    body = {key: value for key, value in root.value.items() if key != "access_token"}
    return Draft(
        type=message_type,
        body={**body, "type": message_type},
        content=root.value[message_type],
        to=to,
        to_digits=digits,
        user_id=user_id,
        quoted=_quoted(root, message_type),
        callback_data=_callback_data(root),
    )


def require_product(params: Json) -> None:
    if "messaging_product" not in params:
        raise GraphError(100, message="(#100) The parameter messaging_product is required.")
    if params["messaging_product"] != "whatsapp":
        got = params["messaging_product"]
        raise GraphError(100, message=f'(#100) Param messaging_product must be one of {{WHATSAPP}} - got "{got}".')


def _type(root: Param) -> str:
    if not root.has("type"):
        # Older clients leave it out for text.
        if root.has("text"):
            return "text"
        raise GraphError(100, message="(#100) The parameter type is required.")
    message_type = root.text("type")
    if message_type not in content.TYPES:
        raise GraphError(131051, details=f"Message type {message_type} is not supported.")
    return message_type


def _recipient(root: Param) -> tuple[str, str, str]:
    """`to` as written, its digits, and the BSUID; the phone number wins when both are given."""
    user_id = root.text_if_any("recipient")
    if not root.has("to"):
        if not user_id:
            raise GraphError(100, message="(#100) The parameter to is required.")
        return "", "", user_id
    raw = root.value["to"]
    to = str(raw) if isinstance(raw, int) and not isinstance(raw, bool) else root.text("to")
    digits = phones.parse(to)
    if digits is None:
        raise GraphError(131009, details="Parameter to is not a valid phone number with country code.")
    return to, digits, user_id


def _quoted(root: Param, message_type: str) -> str:
    if not root.has("context"):
        return ""
    context = root.child("context")
    context.only("message_id")
    quoted = context.text("message_id")
    if message_type == "reaction":
        raise invalid_parameter("Param context is not supported for type reaction.")
    return quoted


def _callback_data(root: Param) -> str | None:
    if not root.has("biz_opaque_callback_data"):
        return None
    return root.text("biz_opaque_callback_data", _CALLBACK_DATA_MAX, may_be_empty=True)
