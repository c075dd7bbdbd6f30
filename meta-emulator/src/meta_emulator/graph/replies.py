"""HTTP answers of the Graph API: escaped JSON and the headers Meta sends with it."""

import json
import re

from aiohttp import web

from meta_emulator.app_key import BUSINESS_USAGE, EMULATOR, TRACE_ID
from meta_emulator.graph.errors import GraphError
from meta_emulator.model import Json
from meta_emulator.webhooks import signing

NEWEST_VERSION = 26
OLDEST_VERSION = 21
_MANAGEMENT_CALLS_PER_HOUR = 5000
_VERSION = re.compile(r"/v(\d{1,3})\.0(?=/)")


def ok(payload: Json | list[Json]) -> web.Response:
    body = signing.encode(payload) if isinstance(payload, dict) else json.dumps(payload)
    return web.Response(text=body, content_type="application/json", charset="UTF-8")


def success() -> web.Response:
    return ok({"success": True})


def refusal(request: web.Request, error: GraphError) -> web.Response:
    response = ok(error.body(request[TRACE_ID]))
    response.set_status(error.http_status)
    if error.code == 190:
        text = error.message.replace('"', "'")
        response.headers["WWW-Authenticate"] = f'OAuth "Facebook Platform" "invalid_token" "{text}"'
    return response


def version_of(path: str) -> int | None:
    """The Graph version that answers: calls to an ended one or without one get the oldest alive; None is unknown."""
    found = _VERSION.match(path)
    version = int(found.group(1)) if found else OLDEST_VERSION
    return None if version > NEWEST_VERSION else max(version, OLDEST_VERSION)


def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    trace = request[TRACE_ID]
    response.headers.update(
        {
            "facebook-api-version": f"v{version_of(request.path) or NEWEST_VERSION}.0",
            "x-fb-request-id": trace,
            "x-fb-trace-id": trace,
            "x-fb-rev": "1030000000",
            "x-fb-debug": trace,
            "x-app-usage": '{"call_count":0,"total_cputime":0,"total_time":0}',
            "Cache-Control": "private, no-cache, no-store, must-revalidate",
            "Pragma": "no-cache",
            "Expires": "Sat, 01 Jan 2000 00:00:00 GMT",
            "Strict-Transport-Security": "max-age=15552000; preload",
            "Vary": "Origin, Accept-Encoding",
            "Access-Control-Allow-Origin": "*",
        }
    )


def count_management_call(request: web.Request, waba_id: str) -> None:
    """Business Management calls are limited per WABA and hour; the usage travels in a header as percent."""
    em = request.app[EMULATOR]
    calls = em.limits.management_calls(waba_id, em.now())
    percent = min(100, calls * 100 // _MANAGEMENT_CALLS_PER_HOUR)
    usage = {
        "type": "whatsapp_business_management",
        "call_count": percent,
        "total_cputime": percent,
        "total_time": percent,
        "estimated_time_to_regain_access": 60 if percent == 100 else 0,
    }
    request[BUSINESS_USAGE] = json.dumps({waba_id: [usage]}, separators=(",", ":"))
    if calls > _MANAGEMENT_CALLS_PER_HOUR:
        raise GraphError(80007, http_status=em.behaviours.everywhere.rate_limit_http_status)
