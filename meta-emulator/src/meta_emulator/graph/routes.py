"""Paths of the Graph API, with a version and without."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from meta_emulator import ids
from meta_emulator.app_key import BUSINESS_USAGE, EMULATOR, TRACE_ID
from meta_emulator.graph import access, media, messages, nodes, numbers, replies, subscriptions, tokens, wabas
from meta_emulator.graph.errors import GraphError, missing_object, unknown_path

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_NODE = r"{node:\d{5,20}}"
_EDGES: tuple[tuple[str, str, Handler], ...] = (
    ("POST", "messages", messages.post),
    ("POST", "media", media.upload),
    ("POST", "register", numbers.register),
    ("POST", "deregister", numbers.deregister),
    ("GET", "phone_numbers", wabas.list_numbers),
    ("GET", "message_templates", wabas.list_templates),
    ("GET", "subscribed_apps", subscriptions.list_apps),
    ("POST", "subscribed_apps", subscriptions.subscribe),
    ("DELETE", "subscribed_apps", subscriptions.unsubscribe),
    ("GET", "subscriptions", subscriptions.list_app_subscriptions),
    ("POST", "subscriptions", subscriptions.subscribe_app),
)


def add(app: web.Application) -> None:
    for prefix in (r"/v{version:\d{1,3}}.0", ""):
        for method, edge, handler in _EDGES:
            app.router.add_route(method, f"{prefix}/{_NODE}/{edge}", answered(edge, handler))
        app.router.add_route("GET", f"{prefix}/debug_token", answered("debug_token", tokens.debug))
        app.router.add_route("GET", f"{prefix}/{_NODE}", answered("node", nodes.get))
        app.router.add_route("POST", f"{prefix}/{_NODE}", answered("node", nodes.post))
        app.router.add_route("DELETE", f"{prefix}/{_NODE}", answered("node", nodes.delete))
        app.router.add_route("*", f"{prefix}/{_NODE}{{rest:(?:/.*)?}}", answered("unknown", _unknown))
    app.router.add_route("GET", "/whatsapp_business/attachments/", answered("download", media.download))
    app.router.add_route("*", r"/v{version:\d{1,3}}.0/{rest:.*}", answered("unknown", _unknown))


def answered(edge: str, handler: Handler) -> Handler:
    """Turn refusals into Meta's envelope, and put Meta's headers on every answer."""

    async def answer(request: web.Request) -> web.StreamResponse:
        request[TRACE_ID] = ids.trace_id(request.app[EMULATOR].random)
        try:
            if replies.version_of(request.path) is None:
                raise unknown_path(request.path)
            response = await handler(request)
        except GraphError as refused:
            response = replies.refusal(request, refused)
        replies.add_headers(request, response)
        if (usage := request.get(BUSINESS_USAGE)) is not None:
            response.headers["x-business-use-case-usage"] = usage
        metrics = request.app[EMULATOR].metrics
        metrics.add("meta_emulator_requests_total", edge=edge, status=str(response.status))
        return response

    return answer


async def _unknown(request: web.Request) -> web.StreamResponse:
    access.token_of(request.app[EMULATOR], request)
    if "node" in request.match_info and not request.match_info.get("rest"):
        raise missing_object(request.match_info["node"], request.method.lower())
    raise unknown_path("/" + request.match_info.get("rest", "").strip("/"))
