"""Customers: create, list, change."""

from aiohttp import web
from msgspec import UNSET

from meta_emulator import customers, outcomes, views
from meta_emulator.app_key import EMULATOR
from meta_emulator.control import lookups
from meta_emulator.control.bodies import CustomerChange, NewCustomer
from meta_emulator.control.errors import Refused, read


async def create(request: web.Request) -> web.Response:
    em, body = request.app[EMULATOR], await read(request, NewCustomer)
    digits = lookups.digits(body.wa_id, "waId") if body.wa_id is not None else ""
    username = (body.username or "").removeprefix("@")
    try:
        found = customers.create(em, name=body.name, digits=digits, username=username)
    except customers.IdentityTaken as taken:
        raise Refused(taken.field, "unique", f"{taken}.", status=409) from taken
    found.online, found.read_receipts, found.reads_alone = body.online, body.read_receipts, body.reads_alone
    return web.json_response(views.customer(em, found), status=201)


async def list_all(request: web.Request) -> web.Response:
    """With `phoneNumberId` each comes with its chat, latest first."""
    em = request.app[EMULATOR]
    number = lookups.number_in_query(em, request)
    found = list(em.world.customers.values())
    if number is not None:
        latest = {
            chat.customer_id: em.world.messages[chat.wamids[-1]].time
            for chat in em.world.chats.values()
            if chat.number_id == number.id and chat.wamids
        }
        found.sort(key=lambda customer: latest.get(customer.id, 0.0), reverse=True)
    return web.json_response({"customers": [views.customer(em, customer, number) for customer in found]})


async def change(request: web.Request) -> web.Response:
    em = request.app[EMULATOR]
    found, body = lookups.customer(em, request.match_info["customer"]), await read(request, CustomerChange)
    was_online = found.online
    if body.username is not UNSET:
        found.username = (body.username or "").removeprefix("@")
    for name in ("name", "shares_phone", "online", "read_receipts", "reads_alone"):
        if (value := getattr(body, name)) is not UNSET:
            setattr(found, name, value)
    if found.online and not was_online:
        outcomes.came_online(em, found)
    em.feed.publish({"type": "customer", "customerId": found.id})
    return web.json_response(views.customer(em, found, lookups.number_in_query(em, request)))
