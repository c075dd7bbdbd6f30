"""POST /{phone_number_id}/messages: send, mark read, show typing (whatsapp-cloud-api.md 1, 9.2)."""

import asyncio

from aiohttp import web

from meta_emulator import customers, faults, media, outcomes, threads, wamid
from meta_emulator.app_key import EMULATOR
from meta_emulator.emulator import Emulator
from meta_emulator.graph import access, params, recipients, replies, requests, template_sends
from meta_emulator.graph.errors import GraphError, asynchronous, invalid_parameter
from meta_emulator.graph.params import Param
from meta_emulator.model import MEDIA_TYPES, Customer, Fault, Json, Message, Number, Template

_TYPING_SECONDS = 25.0


async def post(request: web.Request) -> web.StreamResponse:
    em = request.app[EMULATOR]
    number = access.number(em, access.token_of(em, request), request.match_info["node"])
    access.require_ready(number)
    given = await params.read(request)
    if (slow := faults.take(em, "delay", number)) is not None:
        await em.clock.sleep(slow.seconds)
    if given.get("status") is not None:
        return _mark_read(em, number, given)
    if (drop := faults.take(em, "drop_before_accept", number)) is not None:
        return await _cut(request, drop)
    try:
        message = accept(em, number, given)
    except GraphError as refused:
        em.metrics.add("meta_emulator_sends_total", result=str(refused.code))
        raise
    em.metrics.add("meta_emulator_sends_total", result="accepted")
    if (drop := faults.take(em, "drop_after_accept", number)) is not None:
        return await _cut(request, drop)
    if wait := em.draw(em.behaviour(number).response_delay_seconds):
        await em.clock.sleep(wait)
    return replies.ok(_answer(em, number, message))


def accept(em: Emulator, number: Number, given: Json) -> Message:
    """Steps 4 to 9 of the validation order; the message is in the chat when this returns."""
    draft = requests.parse(given)
    media.require_usable(em, number, draft.type, draft.body)
    faults.raise_if_sends_fail(em, number)
    customer = recipients.find(em, number, draft)
    digits = customer.digits if customer else draft.to_digits
    recipients.check_rates(em, number, digits)
    recipients.check_account(number)
    recipients.check_recipient(number, digits)
    template, rendered = None, None
    if draft.type == "template":
        template, rendered = template_sends.check(em, number, draft.body["template"])
        media.require_usable_header(em, number, rendered)
        if template.category == "AUTHENTICATION" and not draft.to_digits:
            raise GraphError(131062)
    if customer is None:
        customer = customers.create(em, name="", digits=digits)
    failure = _failure(em, number, customer, draft, template)
    is_open = em.chat(number, customer).is_open_at(em.now())
    message = Message(
        wamid=wamid.outbound(customer.digits, em.random),
        number_id=number.id,
        customer_id=customer.id,
        outbound=True,
        type=draft.type,
        body=draft.body,
        time=em.now(),
        recipient_input=draft.to or draft.user_id,
        by_user_id=bool(draft.user_id),
        quoted=draft.quoted,
        callback_data=draft.callback_data,
        media_id=media.shown_id(draft.type, draft.body, rendered),
        rendered=rendered,
        failure=failure,
    )
    _price(em, number, message, template, is_open=is_open)
    customers.user_id_for(em, customer, number.waba_id)
    threads.append(em, message)
    outcomes.begin(em, message)
    return message


def _failure(
    em: Emulator, number: Number, customer: Customer, draft: requests.Draft, template: Template | None
) -> Json | None:
    """What goes wrong after the 200; raises instead where this number is told synchronously."""
    if (bound := faults.for_recipient(em, number, customer)) is not None:
        code, details, is_async = bound
        if not is_async:
            raise GraphError(code, details=details)
        return asynchronous(code, details)
    if template is None and not em.chat(number, customer).is_open_at(em.now()):
        if em.behaviour(number).closed_window == "sync":
            raise GraphError(131047)
        return asynchronous(131047)
    if draft.type == "reaction":
        target = em.world.messages.get(draft.body["reaction"]["message_id"])
        if target is None or target.type == "reaction" or target.customer_id != customer.id:
            return asynchronous(131009, "The message to react to does not exist, or is itself a reaction.")
    if draft.type in MEDIA_TYPES and (details := media.mismatch(em, draft.type, draft.body)):
        return asynchronous(131053, details)
    return None


def _price(em: Emulator, number: Number, message: Message, template: Template | None, *, is_open: bool) -> None:
    message.category = template.category.lower() if template else "service"
    if message.category == "service":
        is_free = not em.behaviour(number).bill_service_messages
    else:
        is_free = message.category == "utility" and is_open
    message.pricing_type = "free_customer_service" if is_free else "regular"


def _answer(em: Emulator, number: Number, message: Message) -> Json:
    customer = em.customer_of(message)
    contact: Json = {"input": message.recipient_input}
    if not message.by_user_id or "to" in message.body:
        contact["wa_id"] = customer.digits
    if message.by_user_id:
        contact["user_id"] = customers.user_id_for(em, customer, number.waba_id)
    sent: Json = {"id": message.wamid}
    if message.type == "template":
        sent["message_status"] = "accepted"
    return {"messaging_product": "whatsapp", "contacts": [contact], "messages": [sent]}


def _mark_read(em: Emulator, number: Number, given: Json) -> web.Response:
    requests.require_product(given)
    root = Param(given, "")
    if given["status"] != "read":
        raise invalid_parameter("Param status must be one of {read}.")
    found = em.world.messages.get(root.text("message_id"))
    if found is None or found.outbound or found.number_id != number.id:
        raise GraphError(131009, details="Parameter message_id is not a message this number received.")
    chat = em.chat(number, em.customer_of(found))
    if root.has("typing_indicator"):
        typing = root.child("typing_indicator")
        typing.only("type")
        typing.one_of("type", ("text",))
        chat.typing_until = em.now() + _TYPING_SECONDS
        em.feed.publish({"type": "typing", "phoneNumberId": number.id, "customerId": chat.customer_id})
    for wamid_ in chat.wamids:
        earlier = em.world.messages[wamid_]
        if not earlier.outbound:
            earlier.read_by_business = True
        if earlier is found:
            break
    em.feed.publish({"type": "readByBusiness", "phoneNumberId": number.id, "customerId": chat.customer_id})
    return replies.success()


async def _cut(request: web.Request, drop: Fault) -> web.StreamResponse:
    """Leave the client without an answer: hold the connection, then break it."""
    await request.app[EMULATOR].clock.sleep(drop.seconds)
    if request.transport is not None:
        request.transport.abort()
    await asyncio.sleep(0)
    raise asyncio.CancelledError
