"""Injected faults: add, list, clear."""

from aiohttp import web
from msgspec import UNSET

from meta_emulator import ids, phones, views
from meta_emulator.app_key import EMULATOR
from meta_emulator.control import lookups
from meta_emulator.control.bodies import NewFault
from meta_emulator.control.errors import Refused, not_found, read
from meta_emulator.graph.errors import CATALOGUE
from meta_emulator.model import Fault

_WITH_CODE = ("send_error", "recipient")


async def create(request: web.Request) -> web.Response:
    em, body = request.app[EMULATOR], await read(request, NewFault)
    if body.phone_number_id is not None:
        lookups.number(em, body.phone_number_id)
    _require_sense(body)
    default_times = None if body.kind == "recipient" else 1
    fault = Fault(
        id=ids.short_id(em.random),
        kind=body.kind,
        number_id=body.phone_number_id or "",
        recipient=_recipient(body.to) if body.to is not None else "",
        code=body.code or 0,
        http_status=body.http_status or 0,
        details=body.details or "",
        seconds=body.seconds,
        times=default_times if body.times is UNSET else body.times,
        asynchronous=body.asynchronous,
    )
    em.world.faults.append(fault)
    return web.json_response(views.fault(fault), status=201)


async def list_all(request: web.Request) -> web.Response:
    em = request.app[EMULATOR]
    return web.json_response({"faults": [views.fault(fault) for fault in em.world.faults]})


async def clear(request: web.Request) -> web.Response:
    em = request.app[EMULATOR]
    count = len(em.world.faults)
    em.world.faults.clear()
    return web.json_response({"removed": count})


async def delete(request: web.Request) -> web.Response:
    em, fault_id = request.app[EMULATOR], request.match_info["fault"]
    kept = [fault for fault in em.world.faults if fault.id != fault_id]
    if len(kept) == len(em.world.faults):
        raise not_found("fault", fault_id)
    em.world.faults = kept
    return web.json_response({"removed": 1})


def _require_sense(body: NewFault) -> None:
    if body.kind in _WITH_CODE and body.code not in CATALOGUE:
        known = ", ".join(str(code) for code in CATALOGUE)
        raise Refused("code", "known", f"code must be one of Meta's: {known}.")
    if body.kind == "recipient" and body.to is None:
        raise Refused("to", "required", "to must name the recipient: a phone number or a BSUID.")
    if body.kind == "delay" and body.seconds == 0:
        raise Refused("seconds", "range", "seconds must be more than 0 for a delay.")


def _recipient(given: str) -> str:
    """BSUIDs stay as they are."""
    return phones.parse(given) or given
