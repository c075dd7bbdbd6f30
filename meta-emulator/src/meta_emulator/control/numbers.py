"""Business numbers: create, list, change, tokens."""

from aiohttp import web
from msgspec import UNSET, ValidationError

from meta_emulator import behaviour, numbers, views
from meta_emulator.app_key import EMULATOR
from meta_emulator.control import lookups
from meta_emulator.control.bodies import NewNumber, NumberChange, TokenChange
from meta_emulator.control.errors import Refused, from_validation, read
from meta_emulator.emulator import Emulator
from meta_emulator.model import Json, Number

_ONLY_EVERYWHERE = "webhookBatchSize"
_PLAIN = (
    "verified_name", "registered", "maintenance", "account_error", "quality_rating", "name_status", "messaging_limit",
)  # fmt: skip


async def create(request: web.Request) -> web.Response:
    em, body = request.app[EMULATOR], await read(request, NewNumber)
    if body.display_phone_number:
        lookups.digits(body.display_phone_number, "displayPhoneNumber")
    wish = numbers.Wish(
        phone_number_id=body.phone_number_id or "",
        waba_id=body.waba_id or "",
        display=body.display_phone_number,
        verified_name=body.verified_name or "",
        access_token=body.access_token or "",
        throughput=body.throughput,
        registered=body.registered,
        subscribed=body.subscribed,
    )
    try:
        number, token = numbers.create(em, wish)
    except numbers.NumberTaken as taken:
        raise Refused(taken.field, "unique", f"{taken}.", status=409) from taken
    return web.json_response({**views.number(em, number), "accessToken": token.value}, status=201)


async def list_all(request: web.Request) -> web.Response:
    em = request.app[EMULATOR]
    return web.json_response({"numbers": [_with_token(em, number) for number in em.world.numbers.values()]})


async def get(request: web.Request) -> web.Response:
    em = request.app[EMULATOR]
    return web.json_response(_with_token(em, _named(em, request)))


async def change(request: web.Request) -> web.Response:
    em = request.app[EMULATOR]
    number, body = _named(em, request), await read(request, NumberChange)
    if body.behaviour is not UNSET:
        _set_behaviour(em, number, body.behaviour)
    if body.allowed_recipients is not UNSET:
        wanted = body.allowed_recipients
        number.allowed_recipients = (
            None if wanted is None else [lookups.digits(one, "allowedRecipients") for one in wanted]
        )
    if body.status is not UNSET:
        number.status = body.status or ""
    for name in _PLAIN:
        if (value := getattr(body, name)) is not UNSET:
            setattr(number, name, value)
    em.feed.publish({"type": "number", "phoneNumberId": number.id})
    return web.json_response(_with_token(em, number))


async def issue_token(request: web.Request) -> web.Response:
    em = request.app[EMULATOR]
    return web.json_response({"accessToken": numbers.issue_token(em, _named(em, request)).value}, status=201)


async def change_tokens(request: web.Request) -> web.Response:
    """Of all live tokens of the number's WABA: when they end, what they may do."""
    em, body = request.app[EMULATOR], await read(request, TokenChange)
    number, changed = _named(em, request), 0
    for token in numbers.live_tokens(em, number):
        changed += 1
        if body.expires_in_seconds is not UNSET:
            token.expires_at = _moment(em, body.expires_in_seconds)
        if body.data_access_expires_in_seconds is not UNSET:
            token.data_access_expires_at = _moment(em, body.data_access_expires_in_seconds)
        if body.scopes is not UNSET:
            token.scopes = list(body.scopes)
    return web.json_response({"changed": changed})


async def revoke_token(request: web.Request) -> web.Response:
    em = request.app[EMULATOR]
    return web.json_response({"revoked": numbers.revoke_tokens(em, _named(em, request))})


def _named(em: Emulator, request: web.Request) -> Number:
    return lookups.number(em, request.match_info["number"])


def _with_token(em: Emulator, number: Number) -> Json:
    token = numbers.current_token(em, number)
    return {**views.number(em, number), "accessToken": None if token is None else token.value}


def _moment(em: Emulator, seconds: float | None) -> float:
    return 0.0 if seconds is None else em.now() + seconds


def _set_behaviour(em: Emulator, number: Number, changes: Json) -> None:
    """Lay changes over what was changed before; null takes a change back."""
    if _ONLY_EVERYWHERE in changes:
        text = f"behaviour.{_ONLY_EVERYWHERE} is for all numbers: PATCH /_emulator/config."
        raise Refused(f"behaviour.{_ONLY_EVERYWHERE}", "known_field", text)
    merged = {key: value for key, value in {**number.behaviour, **changes}.items() if value is not None}
    try:
        behaviour.override(em.behaviours.everywhere, merged)
    except ValidationError as wrong:
        refused = from_validation(wrong)
        refused.field = f"behaviour.{refused.field}".strip(".")
        raise refused from wrong
    number.behaviour = merged
    em.behaviours.forget(number.id)
