"""A business phone number: its fields, registration, PIN and webhook override (whatsapp-cloud-api.md 8.5, 8.6)."""

import re
from datetime import UTC, datetime

from aiohttp import web

from meta_emulator import phones
from meta_emulator.app_key import EMULATOR
from meta_emulator.emulator import Emulator
from meta_emulator.graph import access, fields, params, replies, requests
from meta_emulator.graph.errors import GraphError
from meta_emulator.graph.params import Param
from meta_emulator.graph.subscriptions import verify_override
from meta_emulator.model import MANAGEMENT_SCOPE, Json, Number

NODE_TYPE = "WhatsAppBusinessPhoneNumber"
DEFAULT_FIELDS = (
    "verified_name", "code_verification_status", "display_phone_number", "quality_rating", "platform_type",
    "throughput", "webhook_configuration",
)  # fmt: skip
_PIN = re.compile(r"\d{6}")
_REGISTRATIONS_MAX, _REGISTRATION_SECONDS = 10, 72 * 3600.0
_WRONG_PINS_MAX = 10


def describe(em: Emulator, request: web.Request, number: Number) -> Json:
    return fields.select(request, NODE_TYPE, _readers(em, number), DEFAULT_FIELDS)


def _readers(em: Emulator, number: Number) -> fields.Readers:
    throughput = em.behaviour(number).throughput_per_second
    configuration: Json = {"application": em.callback_url}
    if (subscription := em.waba_of(number).subscription) and subscription.override_callback_uri:
        configuration["whatsapp_business_account"] = subscription.override_callback_uri
    if number.override_callback_uri:
        configuration["phone_number"] = number.override_callback_uri
    return {
        "id": lambda: number.id,
        "display_phone_number": lambda: number.display,
        "verified_name": lambda: number.verified_name,
        "status": lambda: number.status or ("CONNECTED" if number.registered else "PENDING"),
        "quality_rating": lambda: number.quality_rating,
        "quality_score": lambda: {"score": number.quality_rating},
        "name_status": lambda: number.name_status,
        "new_name_status": lambda: "NONE",
        "code_verification_status": lambda: "VERIFIED",
        "account_mode": lambda: "LIVE",
        "is_official_business_account": lambda: False,
        "is_pin_enabled": lambda: bool(number.pin),
        "is_preverified_number": lambda: False,
        "is_on_biz_app": lambda: False,
        "platform_type": lambda: "CLOUD_API" if number.registered else "NOT_APPLICABLE",
        "throughput": lambda: {"level": "HIGH" if throughput >= 1000 else "STANDARD"},
        "whatsapp_business_manager_messaging_limit": lambda: number.messaging_limit,
        "messaging_limit_tier": lambda: number.messaging_limit,
        "search_visibility": lambda: "VISIBLE",
        "health_status": lambda: _health(em, number),
        "webhook_configuration": lambda: configuration,
        "last_onboarded_time": lambda: datetime.fromtimestamp(number.created_at, UTC).strftime("%Y-%m-%dT%H:%M:%S%z"),
        "country_code": lambda: phones.country(number.digits),
    }


def _health(em: Emulator, number: Number) -> Json:
    """Overall health is that of the worst entity."""
    entities: list[Json] = [
        _entity("PHONE_NUMBER", number.id, None if number.registered else (133010, "The number is not registered.")),
        _entity(
            "WABA",
            number.waba_id,
            (number.account_error, "The account is restricted.") if number.account_error is not None else None,
        ),
        _entity("BUSINESS", em.waba_of(number).business_id, None),
        _entity("APP", em.settings.app_id, None),
    ]
    is_blocked = any(entity["can_send_message"] == "BLOCKED" for entity in entities)
    return {"can_send_message": "BLOCKED" if is_blocked else "AVAILABLE", "entities": entities}


def _entity(kind: str, entity_id: str, problem: tuple[int, str] | None) -> Json:
    entity: Json = {"entity_type": kind, "id": entity_id, "can_send_message": "BLOCKED" if problem else "AVAILABLE"}
    if problem:
        entity["errors"] = [{"error_code": problem[0], "error_description": problem[1], "possible_solution": ""}]
    return entity


async def register(request: web.Request) -> web.Response:
    em = request.app[EMULATOR]
    number = _managed(em, request)
    given = await params.read(request)
    requests.require_product(given)
    pin = _pin(Param(given, ""))
    _count_registration(em, number)
    if number.wrong_pins >= _WRONG_PINS_MAX:
        raise GraphError(133008)
    if number.pin and number.pin != pin:
        number.wrong_pins += 1
        raise GraphError(133005)
    number.pin, number.wrong_pins, number.registered = pin, 0, True
    em.feed.publish({"type": "number", "phoneNumberId": number.id})
    return replies.success()


async def deregister(request: web.Request) -> web.Response:
    em = request.app[EMULATOR]
    number = _managed(em, request)
    _count_registration(em, number)
    number.registered = False
    em.feed.publish({"type": "number", "phoneNumberId": number.id})
    return replies.success()


async def update(request: web.Request, em: Emulator, number: Number) -> web.Response:
    """Change the PIN, or where this number's webhooks go (verified first, as for the app)."""
    given = await params.read(request)
    root = Param(given, "")
    if root.has("pin"):
        number.pin = _pin(root)
        return replies.success()
    if root.has("webhook_configuration"):
        configuration = root.child("webhook_configuration")
        uri, verify_token = await verify_override(em, configuration)
        number.override_callback_uri, number.verify_token = uri, verify_token
        return replies.success()
    raise GraphError(100, details="Nothing to change: give pin or webhook_configuration.")


def _managed(em: Emulator, request: web.Request) -> Number:
    token = access.token_of(em, request)
    return access.number(em, token, request.match_info["node"], scope=MANAGEMENT_SCOPE)


def _pin(root: Param) -> str:
    if not root.has("pin"):
        raise GraphError(100, message="(#100) The parameter pin is required.")
    pin = root.value["pin"]
    text = str(pin) if isinstance(pin, int) and not isinstance(pin, bool) else root.text("pin")
    if not _PIN.fullmatch(text):
        raise GraphError(100, details="Param pin must be 6 digits.")
    return text


def _count_registration(em: Emulator, number: Number) -> None:
    recent = [when for when in number.registrations if when > em.now() - _REGISTRATION_SECONDS]
    if len(recent) >= _REGISTRATIONS_MAX:
        raise GraphError(133016)
    number.registrations = [*recent, em.now()]
