"""The web application: Graph API, control API and phone page on one port."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from meta_emulator import phone
from meta_emulator.app_key import EMULATOR
from meta_emulator.control import routes as control_routes
from meta_emulator.emulator import Emulator
from meta_emulator.graph import routes as graph_routes

_BODY_BYTES_MAX = 160 * 1024 * 1024  # base64 of the largest media, and replays of oversized webhooks

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build(em: Emulator) -> web.Application:
    app = web.Application(client_max_size=_BODY_BYTES_MAX, middlewares=[_note_changes])
    app[EMULATOR] = em
    control_routes.add(app)
    phone.add(app)
    graph_routes.add(app)
    return app


@web.middleware
async def _note_changes(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Anything but a read may have changed the state."""
    try:
        return await handler(request)
    finally:
        if request.method not in {"GET", "HEAD"}:
            request.app[EMULATOR].is_dirty = True
