"""What becomes of an accepted message: link fetch, sent, delivered, read or failed, each told by a webhook."""

from meta_emulator import customers, views
from meta_emulator.emulator import Emulator
from meta_emulator.graph.errors import asynchronous
from meta_emulator.model import Customer, FetchDue, Message, Number, StatusDue, Step
from meta_emulator.webhooks import delivery, payloads


def begin(em: Emulator, message: Message) -> None:
    """Plan the first step of a message that was just accepted, or found waiting after a restart."""
    number = em.number_of(message)
    behaviour = em.behaviour(number)
    if message.failure is not None:
        em.schedule.after(em.draw(behaviour.failed_delay_seconds), StatusDue(message.wamid, "failed"))
    elif link_of(message) and not message.media_id and behaviour.fetch_links:
        em.schedule.after(0, FetchDue(message.wamid))
    else:
        em.schedule.after(em.draw(behaviour.sent_delay_seconds), StatusDue(message.wamid, "sent"))


def link_of(message: Message) -> str:
    content = message.body.get(message.type)
    return str(content.get("link", "")) if isinstance(content, dict) else ""


def fail(em: Emulator, message: Message, code: int, details: str | None = None) -> None:
    message.failure = asynchronous(code, details)
    begin(em, message)


def on_due(em: Emulator, due: StatusDue) -> None:
    message = em.world.messages.get(due.wamid)
    if message is None or message.has(due.status) or message.has("failed"):
        return
    number, customer = em.number_of(message), em.customer_of(message)
    match due.status:
        case "sent":
            record(em, message, "sent")
            if message.type != "reaction" and customer.online:
                plan_delivered(em, message)
        case "delivered":
            if customer.online:
                _deliver(em, number, customer, message)
        case "read":
            if customer.online and customer.read_receipts:
                record(em, message, "read")
        case "failed":
            record(em, message, "failed")


def plan_delivered(em: Emulator, message: Message) -> None:
    behaviour = em.behaviour(em.number_of(message))
    em.schedule.after(em.draw(behaviour.delivered_delay_seconds), StatusDue(message.wamid, "delivered"))


def came_online(em: Emulator, customer: Customer) -> None:
    """Everything that waited for the phone is delivered now."""
    for message in _outbound_of(em, customer):
        if message.has("sent") and not message.has("delivered") and not message.has("read"):
            plan_delivered(em, message)


def opened(em: Emulator, number: Number, customer: Customer) -> int:
    """The person looks at the chat: what is there becomes delivered and, with receipts on, read."""
    if not customer.online:
        return 0
    count = 0
    chat = em.chat(number, customer)
    chat.opened_at = em.now()
    for wamid in chat.wamids:
        message = em.world.messages[wamid]
        if not message.outbound or not message.has("sent") or message.has("read") or message.type == "reaction":
            continue
        if not message.has("delivered"):
            record(em, message, "delivered")
        if customer.read_receipts:
            record(em, message, "read")
            count += 1
    return count


def record(em: Emulator, message: Message, status: str) -> None:
    """Take the step and tell the application."""
    number, customer = em.number_of(message), em.customer_of(message)
    failure = [message.failure] if status == "failed" and message.failure is not None else []
    step = Step(status=status, time=em.now(), errors=failure)
    message.steps.append(step)
    em.is_dirty = True
    em.metrics.add("meta_emulator_statuses_total", status=status)
    customers.user_id_for(em, customer, number.waba_id)
    version = em.behaviour(number).webhook_version
    delivery.emit(em, number, payloads.status_value(number, customer, message, step, version=version))
    if em.feed.is_watched:
        em.feed.publish({"type": "message", "message": views.message(em, message)})


def _deliver(em: Emulator, number: Number, customer: Customer, message: Message) -> None:
    behaviour = em.behaviour(number)
    will_read = customer.reads_alone and customer.read_receipts and em.chance(behaviour.read_probability)
    if will_read and em.chance(behaviour.skip_delivered_probability):
        record(em, message, "read")
        return
    record(em, message, "delivered")
    if will_read:
        em.schedule.after(em.draw(behaviour.read_delay_seconds), StatusDue(message.wamid, "read"))


def _outbound_of(em: Emulator, customer: Customer) -> list[Message]:
    chats = [chat for chat in em.world.chats.values() if chat.customer_id == customer.id]
    found = [em.world.messages[wamid] for chat in chats for wamid in chat.wamids]
    return [message for message in found if message.outbound and message.type != "reaction"]
