"""How the control API and the phone page see things: camelCase JSON, times in RFC 3339."""

from datetime import UTC, datetime
from typing import Any

from meta_emulator.emulator import Emulator
from meta_emulator.model import Chat, Customer, Fault, Json, Message, Number, Template
from meta_emulator.webhooks import routing


def message(em: Emulator, found: Message) -> Json:
    """One message of a chat. `status` of the business's own is what Meta last said."""
    number, customer = em.number_of(found), em.customer_of(found)
    content = found.body.get(found.type)
    view: Json = {
        "wamid": found.wamid,
        "phoneNumberId": found.number_id,
        "customerId": found.customer_id,
        "direction": "outbound" if found.outbound else "inbound",
        "from": number.digits if found.outbound else customer.digits,
        "to": found.recipient_input if found.outbound else number.digits,
        "type": found.type,
        found.type: content,
        "time": _iso(found.time),
        "status": status_of(found),
        "body": found.body,
    }
    if found.outbound:
        view["waId"] = customer.digits if customer.shares_phone else None
        view["userId"] = customer.user_ids.get(number.waba_id)
        view["biz_opaque_callback_data"] = found.callback_data
        view["statuses"] = [_step(step.status, step.time, step.errors) for step in found.steps]
    if found.quoted:
        view["quoted"] = found.quoted
        # As the sender of it wrote: Meta calls it message_id on the way out and id on the way in.
        view["context"] = {"message_id" if found.outbound else "id": found.quoted}
    if found.rendered is not None:
        view["rendered"] = found.rendered
    if found.media_id:
        view["mediaUrl"] = f"/_emulator/media/{found.media_id}"
    return view


def status_of(found: Message) -> str:
    """Outbound: accepted, sent, delivered, read, failed. Inbound: sent, delivered (to the app), read (by it)."""
    if found.outbound:
        reached = {step.status for step in found.steps}
        return next((s for s in ("failed", "read", "delivered", "sent") if s in reached), "accepted")
    if found.read_by_business:
        return "read"
    return "delivered" if found.reached_app else "sent"


def number(em: Emulator, found: Number) -> Json:
    waba = em.waba_of(found)
    return {
        "phoneNumberId": found.id,
        "wabaId": found.waba_id,
        "displayPhoneNumber": found.display,
        "verifiedName": found.verified_name,
        "registered": found.registered,
        "status": found.status or None,
        "qualityRating": found.quality_rating,
        "nameStatus": found.name_status,
        "messagingLimit": found.messaging_limit,
        "maintenance": found.maintenance,
        "accountError": found.account_error,
        "allowedRecipients": found.allowed_recipients,
        "subscribed": waba.subscription is not None,
        "callbackUrl": routing.callback_for(em, found),
        "throughput": em.behaviour(found).throughput_per_second,
        "behaviour": found.behaviour,
    }


def customer(em: Emulator, found: Customer, number: Number | None = None) -> Json:
    view: Json = {
        "id": found.id,
        "name": found.name,
        "waId": found.digits if found.shares_phone else None,
        "username": found.username or None,
        "online": found.online,
        "readReceipts": found.read_receipts,
        "readsAlone": found.reads_alone,
        "userIds": found.user_ids,
    }
    if number is not None:
        chat = em.world.chats.get(f"{number.id}:{found.id}")
        view["userId"] = found.user_ids.get(number.waba_id)
        view["chat"] = None if chat is None else _chat(em, chat)
    return view


def template(found: Template) -> Json:
    return {
        "id": found.id,
        "wabaId": found.waba_id,
        "name": found.name,
        "language": found.language,
        "category": found.category,
        "status": found.status,
        "parameterFormat": found.parameter_format,
        "components": found.components,
    }


def fault(found: Fault) -> Json:
    view: dict[str, Any] = {
        "id": found.id,
        "kind": found.kind,
        "phoneNumberId": found.number_id or None,
        "to": found.recipient or None,
        "code": found.code or None,
        "httpStatus": found.http_status or None,
        "details": found.details or None,
        "seconds": found.seconds or None,
        "times": found.times,
    }
    return {key: value for key, value in view.items() if value is not None or key == "times"}


def _chat(em: Emulator, chat: Chat) -> Json:
    messages = [em.world.messages[wamid] for wamid in chat.wamids]
    last = next((found for found in reversed(messages) if found.is_on_phone), None)
    unread = sum(found.outbound and found.type != "reaction" and _is_unseen(found, chat) for found in messages)
    return {
        "windowOpen": chat.is_open_at(em.now()),
        "lastInboundAt": _iso(chat.last_inbound_at) if chat.last_inbound_at else None,
        "typing": chat.typing_until > em.now(),
        "unread": unread,
        "lastMessage": None if last is None else message(em, last),
    }


def _is_unseen(found: Message, chat: Chat) -> bool:
    """Delivered since the chat was open last; without read receipts nothing else tells."""
    delivered_at = next((step.time for step in found.steps if step.status == "delivered"), 0.0)
    return delivered_at > chat.opened_at and not found.has("read")


def _step(status: str, time: float, errors: list[Json]) -> Json:
    step: Json = {"status": status, "time": _iso(time)}
    if errors:
        step["errors"] = errors
    return step


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
