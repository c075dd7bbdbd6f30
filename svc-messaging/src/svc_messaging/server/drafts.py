"""Requests to send, as drafts."""

import json
import uuid
from typing import Any

from aerostic.messaging.v1 import message_pb2
from aerostic.messaging.v1.message_service_pb2 import SendMessageRequest, StartConversationRequest

from kit.errors import InvalidRequest, Violation
from kit.proto_json import to_dict
from svc_messaging.sending import Content, Draft

_COMPONENTS_BYTES_MAX = 32 * 1024
"""Of JSON; the texts of a whole template take less."""


def of_send(request: SendMessageRequest, sender_user_id: uuid.UUID) -> Draft:
    """Raises InvalidRequest."""
    return Draft(
        addressee=f"conversations/{uuid.UUID(request.conversation_id)}",
        content=_content(request),
        sender_user_id=sender_user_id,
        request_id=request.request_id,
        reply_to_message_id=uuid.UUID(request.reply_to_message_id) if request.reply_to_message_id else None,
    )


def of_start(request: StartConversationRequest, sender_user_id: uuid.UUID) -> Draft:
    """Raises InvalidRequest."""
    account = uuid.UUID(request.whatsapp_account_id) if request.whatsapp_account_id else ""
    return Draft(
        addressee=f"{request.to} from {account}",
        content=_template(request.template),
        sender_user_id=sender_user_id,
        request_id=request.request_id,
    )


def _content(request: SendMessageRequest) -> Content:
    match request.WhichOneof("content"):
        case "text":
            return Content("text", request.text.body, {"previewUrl": True} if request.text.preview_url else None)
        case "image":
            return Content("image", request.image.caption, media_id=uuid.UUID(request.image.media_id))
        case _:
            return _template(request.template)


def _template(template: message_pb2.Template) -> Content:
    components = [to_dict(component) for component in template.components]
    _require_storable(components)
    return Content("template", content={"name": template.name, "language": template.language, "components": components})


def _require_storable(components: list[dict[str, Any]]) -> None:
    for place, component in enumerate(components):
        if _has_nul(component):
            field = f"template.components[{place}]"
            raise InvalidRequest.of(Violation(field, "text.no_nul", "must not contain a NUL"))
    if len(json.dumps(components, ensure_ascii=False).encode()) > _COMPONENTS_BYTES_MAX:
        must = f"must be at most {_COMPONENTS_BYTES_MAX} bytes of JSON"
        raise InvalidRequest.of(Violation("template.components", "template.max_bytes", must))


def _has_nul(value: Any) -> bool:
    """PostgreSQL keeps no NUL."""
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_has_nul(key) or _has_nul(each) for key, each in value.items())
    return isinstance(value, list) and any(_has_nul(each) for each in value)
