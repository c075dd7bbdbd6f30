"""What the phone page watches: the stream of events, and media without a token."""

import asyncio
import json

from aiohttp import web

from meta_emulator import media
from meta_emulator.app_key import EMULATOR
from meta_emulator.control.errors import not_found

_HEARTBEAT_SECONDS = 15.0


async def events(request: web.Request) -> web.StreamResponse:
    """Server-sent events, one JSON object each with a `type`."""
    em = request.app[EMULATOR]
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    await response.prepare(request)
    with em.feed.subscribe() as subscriber:
        await response.write(b": hello\n\n")
        while True:
            try:
                event = await asyncio.wait_for(subscriber.events.get(), _HEARTBEAT_SECONDS)
            except TimeoutError:
                await response.write(b": still here\n\n")
                continue
            if event is None:
                return response
            await response.write(f"data: {json.dumps(event)}\n\n".encode())


async def media_content(request: web.Request) -> web.Response:
    em = request.app[EMULATOR]
    found = em.world.media.get(request.match_info["media"])
    content = None if found is None else em.media_bytes.get(found.id)
    if found is None or content is None:
        raise not_found("media", request.match_info["media"])
    # Sandboxed: an uploaded document must not run as a page of this origin.
    headers = {
        "Content-Type": media.plain_type(found.mime_type),
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "X-Content-Type-Options": "nosniff",
    }
    return web.Response(body=content, headers=headers)
