"""The platform as a whole: behaviour, callback, webhooks under way, templates, reset, health, metrics."""

import msgspec
from aiohttp import web

from meta_emulator import behaviour, ids, lifecycle, views
from meta_emulator.app_key import EMULATOR
from meta_emulator.control.bodies import Callback, NewTemplate, TemplateChange
from meta_emulator.control.errors import Refused, from_validation, not_found, read, read_object
from meta_emulator.model import Template
from meta_emulator.webhooks import delivery, verification

_TEMPLATE_STATUSES = ("APPROVED", "PENDING", "REJECTED", "PAUSED", "DISABLED", "IN_APPEAL", "ARCHIVED")


async def get_config(request: web.Request) -> web.Response:
    return web.json_response(msgspec.to_builtins(request.app[EMULATOR].behaviours.everywhere))


async def change_config(request: web.Request) -> web.Response:
    """Behaviour of all numbers; null takes a change back to the setting."""
    em, changes = request.app[EMULATOR], await read_object(request)
    merged = {key: value for key, value in {**em.world.behaviour, **changes}.items() if value is not None}
    before = em.world.behaviour
    try:
        em.behaviours.set_everywhere(merged)
        for number in em.world.numbers.values():
            behaviour.override(em.behaviours.everywhere, number.behaviour)
    except msgspec.ValidationError as wrong:
        em.behaviours.set_everywhere(before)
        raise from_validation(wrong) from wrong
    em.world.behaviour = merged
    return web.json_response(msgspec.to_builtins(em.behaviours.everywhere))


async def set_callback(request: web.Request) -> web.Response:
    """Verify the app's callback with the GET challenge and use it from now on; {} verifies the present one."""
    em, body = request.app[EMULATOR], await read(request, Callback)
    url, token = body.callback_url or em.callback_url, body.verify_token or em.verify_token
    try:
        await verification.verify(em, url, token)
    except verification.CallbackRefused as refused:
        raise Refused("callbackUrl", "verification", f"{refused}.", status=422) from refused
    if body.callback_url:
        em.world.callback_url = url
    if body.verify_token:
        em.world.verify_token = token
    return web.json_response({"callbackUrl": url, "verified": True})


async def webhooks(request: web.Request) -> web.Response:
    em = request.app[EMULATOR]
    waiting = [
        {"id": d.id, "summary": d.summary, "attempts": d.attempts, "lastAnswer": d.last_answer or None, "url": d.url}
        for d in em.world.deliveries.values()
        if d.attempts
    ]
    return web.json_response(
        {
            "callbackUrl": em.callback_url,
            "pending": delivery.pending(em),
            "delivered": em.metrics.total("meta_emulator_webhook_posts_total", answer="200"),
            "retries": em.metrics.total("meta_emulator_webhook_retries_total"),
            "dropped": em.metrics.total("meta_emulator_webhooks_dropped_total"),
            "failing": waiting[:50],
        }
    )


async def retry_webhooks(request: web.Request) -> web.Response:
    return web.json_response({"retrying": delivery.retry_all_now(request.app[EMULATOR])})


async def create_template(request: web.Request) -> web.Response:
    em, body = request.app[EMULATOR], await read(request, NewTemplate)
    if body.waba_id not in em.world.wabas:
        raise not_found("wabaId", body.waba_id)
    _require_status(body.status)
    for template in em.world.templates.values():
        if (template.waba_id, template.name, template.language) == (body.waba_id, body.name, body.language):
            text = f"name: {body.name} exists already in {body.language}."
            raise Refused("name", "unique", text, status=409)
    for place, component in enumerate(body.components):
        if component.get("type") not in {"HEADER", "BODY", "FOOTER", "BUTTONS"}:
            field = f"components[{place}].type"
            raise Refused(field, "choice", f"{field} must be HEADER, BODY, FOOTER or BUTTONS.")
    created = Template(
        id=ids.object_id(em.random, em.world.templates),
        waba_id=body.waba_id,
        name=body.name,
        language=body.language,
        category=body.category,
        components=body.components,
        status=body.status,
        parameter_format=body.parameter_format,
        created_at=em.now(),
    )
    em.world.templates[created.id] = created
    return web.json_response(views.template(created), status=201)


async def list_templates(request: web.Request) -> web.Response:
    em, waba_id = request.app[EMULATOR], request.query.get("wabaId")
    found = [t for t in em.world.templates.values() if waba_id in {None, t.waba_id}]
    return web.json_response({"templates": [views.template(template) for template in found]})


async def change_template(request: web.Request) -> web.Response:
    """A new status, told by a message_template_status_update webhook."""
    em, body = request.app[EMULATOR], await read(request, TemplateChange)
    template = em.world.templates.get(request.match_info["template"])
    if template is None:
        raise not_found("template", request.match_info["template"])
    _require_status(body.status)
    template.status, template.rejected_reason = body.status, body.reason
    is_delivering = delivery.emit_template_status(em, template)
    return web.json_response({**views.template(template), "webhook": "queued" if is_delivering else "not_subscribed"})


async def reset(request: web.Request) -> web.Response:
    lifecycle.reset(request.app[EMULATOR])
    return web.json_response({"reset": True})


async def health(request: web.Request) -> web.Response:
    em = request.app[EMULATOR]
    return web.json_response({"status": "ok", "numbers": len(em.world.numbers), "pending": delivery.pending(em)})


async def metrics(request: web.Request) -> web.Response:
    text = request.app[EMULATOR].metrics.render()
    return web.Response(text=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


def _require_status(status: str) -> None:
    if status not in _TEMPLATE_STATUSES:
        raise Refused("status", "choice", f"status must be one of {', '.join(_TEMPLATE_STATUSES)}.")
