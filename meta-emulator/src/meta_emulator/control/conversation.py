"""Play the customer: write to the business, see what it sent, open the chat."""

from aiohttp import web
from msgspec import UNSET

from meta_emulator import inbound, outcomes, views
from meta_emulator.app_key import EMULATOR
from meta_emulator.control import lookups
from meta_emulator.control.bodies import ChatChange, Inbound
from meta_emulator.control.errors import Refused, read
from meta_emulator.model import WINDOW_SECONDS


async def receive(request: web.Request) -> web.Response:
    em, body = request.app[EMULATOR], await read(request, Inbound)
    number = lookups.number(em, body.phone_number_id)
    customer = lookups.sender(em, number, body.sender)
    base = em.settings.public_url.rstrip("/") or f"{request.scheme}://{request.host}"
    try:
        receipt = inbound.receive(em, number, customer, body.message, base)
    except inbound.Malformed as malformed:
        raise Refused(malformed.field, malformed.rule, str(malformed)) from malformed
    return web.json_response(
        {
            "wamid": receipt.message.wamid,
            "customerId": customer.id,
            "webhook": "queued" if receipt.is_delivering else "not_subscribed",
        }
    )


async def sent(request: web.Request) -> web.Response:
    """What a business number sent, oldest first; `after` is a wamid to go on from."""
    em = request.app[EMULATOR]
    if "phoneNumberId" not in request.query:
        raise Refused("phoneNumberId", "required", "phoneNumberId must be given in the query.")
    number = lookups.number(em, request.query["phoneNumberId"])
    wamids = list(em.index.sent.get(number.id, ()))
    if after := request.query.get("after"):
        if after not in wamids:
            raise Refused("after", "known", f"after: {after!r} is no message of this number.", status=404)
        wamids = wamids[wamids.index(after) + 1 :]
    if limit := request.query.get("limit"):
        if not limit.isdigit() or int(limit) < 1:
            raise Refused("limit", "range", "limit must be a positive number.")
        wamids = wamids[: int(limit)]
    return web.json_response({"messages": [views.message(em, em.world.messages[wamid]) for wamid in wamids]})


async def chat(request: web.Request) -> web.Response:
    """Both directions of one chat, oldest first."""
    em = request.app[EMULATOR]
    number = lookups.number(em, request.query.get("phoneNumberId", ""))
    customer = lookups.customer(em, request.query.get("customerId", ""))
    found = em.world.chats.get(f"{number.id}:{customer.id}")
    wamids = found.wamids if found else []
    return web.json_response(
        {
            "number": views.number(em, number),
            "customer": views.customer(em, customer, number),
            "messages": [views.message(em, em.world.messages[wamid]) for wamid in wamids],
        }
    )


async def change_chat(request: web.Request) -> web.Response:
    """`opened`: the customer reads the chat. `windowOpen`: open or close the 24-hour window without a message."""
    em, body = request.app[EMULATOR], await read(request, ChatChange)
    number = lookups.number(em, body.phone_number_id)
    customer = lookups.customer(em, body.customer_id)
    if body.window_open is not UNSET:
        em.chat(number, customer).last_inbound_at = em.now() - (0.0 if body.window_open else WINDOW_SECONDS)
    count = outcomes.opened(em, number, customer) if body.opened is True else 0
    return web.json_response({"read": count, "customer": views.customer(em, customer, number)})
