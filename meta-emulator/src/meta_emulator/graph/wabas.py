"""A WhatsApp Business Account: its fields, its numbers and its templates (whatsapp-cloud-api.md 6.2, 8.6)."""

from aiohttp import web

from meta_emulator.app_key import EMULATOR
from meta_emulator.emulator import Emulator
from meta_emulator.graph import access, fields, numbers, paging, replies
from meta_emulator.model import Json, Template, Waba

_TEMPLATE_DEFAULT = ("name", "parameter_format", "components", "language", "status", "category")
_TEMPLATE_FILTERS = ("status", "name", "category", "language")


def describe(request: web.Request, waba: Waba) -> Json:
    readers: fields.Readers = {
        "id": lambda: waba.id,
        "name": lambda: waba.name,
        "currency": lambda: waba.currency,
        "timezone_id": lambda: waba.timezone_id,
        "message_template_namespace": lambda: waba.namespace,
        "account_review_status": lambda: "APPROVED",
        "business_verification_status": lambda: "verified",
        "ownership_type": lambda: "CLIENT_OWNED",
        "country": lambda: "US",
        "status": lambda: "ACTIVE",
        "owner_business_info": lambda: {"id": waba.business_id, "name": waba.name},
        "marketing_messages_lite_api_status": lambda: "INELIGIBLE",
        "disable_marketing_messages_on_cloud_api": lambda: False,
    }
    default = ("name", "currency", "timezone_id", "message_template_namespace")
    return fields.select(request, "WhatsAppBusinessAccount", readers, default)


async def list_numbers(request: web.Request) -> web.Response:
    """Newest first."""
    em, waba = _managed(request)
    found = [number for number in em.world.numbers.values() if number.waba_id == waba.id]
    found.sort(key=lambda number: number.created_at, reverse="ascending" not in request.query.get("sort", ""))
    return replies.ok(paging.page(request, [numbers.describe(em, request, number) for number in found]))


async def list_templates(request: web.Request) -> web.Response:
    em, waba = _managed(request)
    found = [t for t in em.world.templates.values() if t.waba_id == waba.id and _suits(request, t)]
    return replies.ok(paging.page(request, [describe_template(request, template) for template in found]))


def describe_template(request: web.Request, template: Template) -> Json:
    readers: fields.Readers = {
        "id": lambda: template.id,
        "name": lambda: template.name,
        "language": lambda: template.language,
        "category": lambda: template.category,
        "status": lambda: template.status,
        "components": lambda: template.components,
        "parameter_format": lambda: template.parameter_format,
        "quality_score": lambda: {"score": template.quality_score, "date": int(template.created_at)},
        "rejected_reason": lambda: template.rejected_reason,
        "previous_category": lambda: None,
        "correct_category": lambda: None,
        "sub_category": lambda: None,
        "message_send_ttl_seconds": lambda: None,
        "cta_url_link_tracking_opted_out": lambda: None,
        "library_template_name": lambda: None,
    }
    return fields.select(request, "WhatsAppMessageTemplate", readers, _TEMPLATE_DEFAULT)


def _suits(request: web.Request, template: Template) -> bool:
    wanted = {name: request.query[name] for name in _TEMPLATE_FILTERS if request.query.get(name)}
    own = {name: str(getattr(template, name)) for name in wanted}
    if "name" in wanted and wanted.pop("name").lower() not in own.pop("name"):
        return False
    return all(own[name].lower() == value.lower() for name, value in wanted.items())


def _managed(request: web.Request) -> tuple[Emulator, Waba]:
    em = request.app[EMULATOR]
    token = access.token_of(em, request)
    waba = access.waba(em, token, request.match_info["node"])
    replies.count_management_call(request, waba.id)
    return em, waba
