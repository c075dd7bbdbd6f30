"""Who gets webhooks, and where: subscribed_apps of a WABA, subscriptions of the app (whatsapp-cloud-api.md 2.3)."""

from aiohttp import web

from meta_emulator.app_key import EMULATOR
from meta_emulator.emulator import Emulator
from meta_emulator.graph import access, params, replies
from meta_emulator.graph.errors import GraphError, missing_object
from meta_emulator.graph.params import Param
from meta_emulator.model import Json, Subscription, Token, Waba
from meta_emulator.webhooks import verification

_URI_MAX = 200


async def subscribe(request: web.Request) -> web.Response:
    """Without override the app's callback is used, and an earlier override is removed."""
    em = request.app[EMULATOR]
    _, waba = _managed(em, request, "post")
    given = await params.read(request)
    root = Param(given, "")
    subscription = Subscription()
    if root.has("override_callback_uri"):
        uri, verify_token = await verify_override(em, root)
        subscription = Subscription(override_callback_uri=uri, verify_token=verify_token)
    waba.subscription = subscription
    em.feed.publish({"type": "number", "wabaId": waba.id})
    return replies.success()


async def list_apps(request: web.Request) -> web.Response:
    em = request.app[EMULATOR]
    _, waba = _managed(em, request, "get")
    if waba.subscription is None:
        return replies.ok({"data": []})
    app: Json = {
        "whatsapp_business_api_data": {
            "id": em.settings.app_id,
            "link": f"https://www.facebook.com/games/?app_id={em.settings.app_id}",
            "name": "Aerostic",
        }
    }
    if waba.subscription.override_callback_uri:
        app["override_callback_uri"] = waba.subscription.override_callback_uri
    return replies.ok({"data": [app]})


async def unsubscribe(request: web.Request) -> web.Response:
    em = request.app[EMULATOR]
    _, waba = _managed(em, request, "delete")
    waba.subscription = None
    em.feed.publish({"type": "number", "wabaId": waba.id})
    return replies.success()


async def subscribe_app(request: web.Request) -> web.Response:
    """POST /{app_id}/subscriptions with the app token: the app's own callback, verified before it is taken."""
    em = request.app[EMULATOR]
    _require_app(em, request)
    given = await params.read(request)
    root = Param(given, "")
    root.one_of("object", ("whatsapp_business_account",))
    url = root.text("callback_url", 2048)
    verify_token = root.text("verify_token")
    await _verify(em, url, verify_token)
    em.world.callback_url, em.world.verify_token = url, verify_token
    return replies.success()


async def list_app_subscriptions(request: web.Request) -> web.Response:
    em = request.app[EMULATOR]
    _require_app(em, request)
    subscription = {
        "object": "whatsapp_business_account",
        "callback_url": em.callback_url,
        "active": True,
        "fields": [{"name": name, "version": "v24.0"} for name in ("messages", "message_template_status_update")],
    }
    return replies.ok({"data": [subscription]})


async def verify_override(em: Emulator, holder: Param) -> tuple[str, str]:
    """Override URI and verify token of a request, proven by the challenge; an empty URI removes the override."""
    if holder.value.get("override_callback_uri") == "":
        return "", ""
    uri = holder.text("override_callback_uri", _URI_MAX)
    verify_token = holder.text("verify_token")
    await _verify(em, uri, verify_token)
    return uri, verify_token


async def _verify(em: Emulator, uri: str, verify_token: str) -> None:
    if not uri.startswith(("http://", "https://")):
        raise GraphError(100, details="The callback must be an http or https URL.")
    try:
        await verification.verify(em, uri, verify_token)
    except verification.CallbackRefused as refused:
        text = f"(#2200) Callback verification failed with the following errors: {refused}"
        raise GraphError(2200, message=text, http_status=400) from refused


def _managed(em: Emulator, request: web.Request, verb: str) -> tuple[Token, Waba]:
    token = access.token_of(em, request)
    waba = access.waba(em, token, request.match_info["node"], verb)
    replies.count_management_call(request, waba.id)
    return token, waba


def _require_app(em: Emulator, request: web.Request) -> None:
    access.token_of(em, request)
    if not access.is_app_token(em, access.bearer(request)):
        raise GraphError(15, message="(#15) This method must be called with an app access_token.", http_status=400)
    if request.match_info["node"] != em.settings.app_id:
        raise missing_object(request.match_info["node"])
