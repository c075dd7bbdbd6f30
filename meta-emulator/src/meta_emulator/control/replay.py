"""POST /_emulator/replay: any bytes, signed as they are, to the callback; its answer is passed back."""

import aiohttp
from aiohttp import web

from meta_emulator.app_key import EMULATOR
from meta_emulator.control import lookups
from meta_emulator.control.errors import Refused
from meta_emulator.webhooks import routing, signing

_ANSWER_BYTES_MAX = 64 * 1024


async def replay(request: web.Request) -> web.Response:
    """`signature`: valid, wrong or none. `phoneNumberId`: take that number's callback instead of the app's."""
    em = request.app[EMULATOR]
    body = await request.read()
    number = lookups.number_in_query(em, request)
    url = (routing.callback_for(em, number) if number else None) or em.callback_url
    headers = signing.headers(body, _secret(request, em.settings.app_secret.get_secret_value()))
    if request.query.get("signature") == "none":
        headers = {name: value for name, value in headers.items() if not name.startswith("X-Hub-")}
    timeout = aiohttp.ClientTimeout(total=60)
    try:
        async with em.http.post(
            url, data=signing.wire(body), headers=headers, timeout=timeout, allow_redirects=False
        ) as answer:
            content = await answer.content.read(_ANSWER_BYTES_MAX)
            return web.Response(status=answer.status, body=content, headers={"Content-Type": answer.content_type})
    except TimeoutError as late:
        raise Refused("", "callback", f"{url} did not answer within 60 seconds.", status=504) from late
    except (aiohttp.ClientError, OSError) as failed:
        raise Refused("", "callback", f"{url} could not be reached: {failed}.", status=502) from failed


def _secret(request: web.Request, own: str) -> str:
    wanted = request.query.get("signature", "valid")
    if wanted not in {"valid", "wrong", "none"}:
        raise Refused("signature", "choice", "signature must be valid, wrong or none.")
    return own if wanted == "valid" else f"not {own}"
