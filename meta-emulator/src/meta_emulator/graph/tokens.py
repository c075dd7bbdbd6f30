"""GET /debug_token: what a token is and reaches (whatsapp-cloud-api.md 8.3)."""

from aiohttp import web

from meta_emulator.app_key import EMULATOR
from meta_emulator.emulator import Emulator
from meta_emulator.graph import access, replies
from meta_emulator.graph.errors import GraphError
from meta_emulator.model import Json, Token

_APP_NAME = "Aerostic"


async def debug(request: web.Request) -> web.Response:
    em = request.app[EMULATOR]
    caller = access.token_of(em, request)
    value = request.query.get("input_token", "")
    if not value:
        raise GraphError(100, message="(#100) The parameter input_token is required.")
    found = access.find_token(em, value)
    may_see = access.is_app_token(em, caller.value) or found is caller
    if found is None or not may_see:
        error = {"code": 190, "message": "Invalid OAuth access token - Cannot parse access token"}
        return replies.ok({"data": {"error": error, "is_valid": False, "scopes": []}})
    return replies.ok({"data": _facts(em, found)})


def _facts(em: Emulator, token: Token) -> Json:
    if access.is_app_token(em, token.value):
        return {"app_id": em.settings.app_id, "type": "APP", "application": _APP_NAME, "is_valid": True, "scopes": []}
    refusal = access.token_refusal(em, token)
    facts: Json = {
        "app_id": em.settings.app_id,
        "type": "SYSTEM_USER",
        "application": _APP_NAME,
        "data_access_expires_at": int(token.data_access_expires_at),
        "expires_at": int(token.expires_at),
        "is_valid": refusal is None,
        "issued_at": int(token.issued_at),
        "scopes": [*token.scopes, "public_profile"],
        "granular_scopes": [{"scope": scope, "target_ids": token.waba_ids} for scope in token.scopes],
        "user_id": token.user_id,
    }
    if refusal is not None:
        facts["error"] = {"code": refusal.code, "message": refusal.message, "subcode": refusal.subcode}
    return facts
