"""Who calls and what they may touch: steps 1 to 3 of the validation order."""

import hashlib
import hmac
from datetime import UTC, datetime

from aiohttp import web

from meta_emulator.emulator import Emulator
from meta_emulator.graph.errors import GraphError, missing_object
from meta_emulator.model import MANAGEMENT_SCOPE, MESSAGING_SCOPE, Number, Token, Waba

_PERMISSION_MISSING = "You do not have the necessary permissions to act on behalf of this WhatsApp Business Account"


def bearer(request: web.Request) -> str:
    """The token of a call: Authorization header (Bearer or OAuth), else the access_token parameter."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() in {"bearer", "oauth"}:
        return value.strip()
    return request.query.get("access_token", "")


def token_of(em: Emulator, request: web.Request) -> Token:
    """The live token of the caller; 190 or 104 otherwise."""
    value = bearer(request)
    if not value:
        message = "An access token is required to request this resource."
        raise GraphError(104, message=message, http_status=400)
    found = find_token(em, value)
    if found is None:
        raise _invalid("Invalid OAuth access token - Cannot parse access token")
    if (refusal := token_refusal(em, found)) is not None:
        raise refusal
    _check_proof(em, request, value)
    return found


def find_token(em: Emulator, value: str) -> Token | None:
    """A known token, or the app's own `APP_ID|APP_SECRET`, which reaches no WABA."""
    if is_app_token(em, value):
        return Token(value=value, user_id="", waba_ids=[], scopes=[], issued_at=0.0)
    return em.world.tokens.get(value)


def is_app_token(em: Emulator, value: str) -> bool:
    own = f"{em.settings.app_id}|{em.settings.app_secret.get_secret_value()}"
    return hmac.compare_digest(value.encode(), own.encode())


def token_refusal(em: Emulator, token: Token) -> GraphError | None:
    if token.revoked_at is not None:
        return _invalid(
            "Error validating access token: The session was invalidated explicitly using an API call.", subcode=467
        )
    if token.expires_at and token.expires_at <= em.now():
        ended, current = _when(token.expires_at), _when(em.now())
        text = f"Error validating access token: Session has expired on {ended}. The current time is {current}."
        return _invalid(text, subcode=463)
    return None


def waba(em: Emulator, token: Token, waba_id: str, verb: str = "get") -> Waba:
    """A WABA for management calls."""
    found = em.world.wabas.get(waba_id)
    if found is None or waba_id not in token.waba_ids:
        raise missing_object(waba_id, verb)
    _require_scope(token, MANAGEMENT_SCOPE)
    return found


def number(em: Emulator, token: Token, number_id: str, *, verb: str = "post", scope: str = MESSAGING_SCOPE) -> Number:
    found = em.world.numbers.get(number_id)
    if found is None or found.waba_id not in token.waba_ids:
        raise missing_object(number_id, verb)
    _require_scope(token, scope)
    return found


def require_ready(number: Number) -> None:
    """Step 3: only a registered number outside of maintenance sends."""
    if not number.registered:
        raise GraphError(133010)
    if number.maintenance:
        raise GraphError(131057)


def _require_scope(token: Token, scope: str) -> None:
    if scope in token.scopes:
        return
    if scope == MESSAGING_SCOPE:
        raise GraphError(10)
    raise GraphError(200, message=f"(#200) {_PERMISSION_MISSING}")


def _invalid(message: str, subcode: int | None = None) -> GraphError:
    return GraphError(190, message=message, subcode=subcode)


def _check_proof(em: Emulator, request: web.Request, token: str) -> None:
    """appsecret_proof is optional, but a wrong one is refused."""
    proof = request.query.get("appsecret_proof")
    if proof is None:
        return
    secret = em.settings.app_secret.get_secret_value().encode()
    expected = hmac.new(secret, token.encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected.encode(), proof.encode()):
        raise GraphError(100, message="Invalid appsecret_proof provided in the API argument")


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%A, %d-%b-%y %H:%M:%S UTC")
