"""Webhook bodies as Meta sends them, and as nobody should."""

import hashlib
import hmac
import itertools
import json
from typing import Any

NUMBER = "100000000000042"
SECRET = "test_app_secret"
OLD_SECRET = "the_secret_before"
VERIFY_TOKEN = "a token of ours"

_wamids = itertools.count(1)


def make_message(contact: str = "5511987654321", text: str = "Is it in stock?") -> dict[str, Any]:
    return {
        "from": contact,
        "id": f"wamid.M{next(_wamids)}",
        "timestamp": "1790000000",
        "type": "text",
        "text": {"body": text},
    }


def make_status(contact: str = "5511987654321") -> dict[str, Any]:
    return {
        "id": f"wamid.S{next(_wamids)}",
        "status": "sent",
        "timestamp": "1790000003",
        "recipient_id": contact,
    }


def make_change(
    *, number: str = NUMBER, messages: tuple[Any, ...] = (), statuses: tuple[Any, ...] = ()
) -> dict[str, Any]:
    value: dict[str, Any] = {"messaging_product": "whatsapp", "metadata": {"phone_number_id": number}}
    value |= {"messages": list(messages)} if messages else {}
    value |= {"statuses": list(statuses)} if statuses else {}
    return {"field": "messages", "value": value}


def make_body(*changes: Any) -> bytes:
    """One entry with these changes, escaped as on Meta's wire; without changes, one message."""
    entry = {"id": "200000000000077", "changes": list(changes) or [make_change(messages=(make_message(),))]}
    return json.dumps({"object": "whatsapp_business_account", "entry": [entry]}, separators=(",", ":")).encode()


def make_texts(count: int, *, contact: str = "5511987654321") -> list[bytes]:
    """Bodies of one contact, one message each."""
    return [make_body(make_change(messages=(make_message(contact, f"text {i}"),))) for i in range(count)]


def signature(body: bytes, secret: str = SECRET) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
