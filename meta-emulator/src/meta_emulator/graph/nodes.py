"""Calls on a bare object id: find out what it is, then let its module answer."""

from aiohttp import web

from meta_emulator import media as media_store
from meta_emulator.app_key import EMULATOR
from meta_emulator.graph import access, media, numbers, replies, wabas
from meta_emulator.graph.errors import missing_object
from meta_emulator.model import MANAGEMENT_SCOPE


async def get(request: web.Request) -> web.Response:
    em, node = request.app[EMULATOR], request.match_info["node"]
    token = access.token_of(em, request)
    if node in em.world.numbers:
        number = access.number(em, token, node, verb="get", scope=MANAGEMENT_SCOPE)
        replies.count_management_call(request, number.waba_id)
        return replies.ok(numbers.describe(em, request, number))
    if node in em.world.wabas:
        waba = access.waba(em, token, node)
        replies.count_management_call(request, waba.id)
        return replies.ok(wabas.describe(request, waba))
    if node in em.world.templates:
        template = em.world.templates[node]
        access.waba(em, token, template.waba_id)
        return replies.ok(wabas.describe_template(request, template))
    if (found := media_store.find(em, node)) is not None:
        return media.describe(em, request, token, found)
    raise missing_object(node, "get")


async def post(request: web.Request) -> web.Response:
    em, node = request.app[EMULATOR], request.match_info["node"]
    token = access.token_of(em, request)
    return await numbers.update(request, em, access.number(em, token, node, scope=MANAGEMENT_SCOPE))


async def delete(request: web.Request) -> web.Response:
    em, node = request.app[EMULATOR], request.match_info["node"]
    token = access.token_of(em, request)
    found = media_store.find(em, node)
    if found is None:
        raise missing_object(node, "delete")
    return media.delete(em, token, found)
