"""Cursor paging of Graph lists: opaque cursors, `next` only while there is more and with the caller's token."""

import base64
from urllib.parse import urlencode

from aiohttp import web

from meta_emulator.graph import access
from meta_emulator.graph.errors import GraphError
from meta_emulator.model import Json

_DEFAULT, _MOST = 25, 1000


def page(request: web.Request, items: list[Json]) -> Json:
    limit = _limit(request.query.get("limit", ""))
    start = _position(request.query["after"]) + 1 if request.query.get("after") else 0
    if request.query.get("before"):
        start = max(0, _position(request.query["before"]) - limit)
    part = items[start : start + limit]
    answer: Json = {"data": part}
    if part:
        end = start + len(part) - 1
        answer["paging"] = {"cursors": {"before": _cursor(start), "after": _cursor(end)}}
        if end + 1 < len(items):
            answer["paging"]["next"] = _link(request, _cursor(end))
    return answer


def _limit(text: str) -> int:
    if not text:
        return _DEFAULT
    if not text.isdigit() or not 1 <= int(text) <= _MOST:
        raise GraphError(100, message=f"(#100) Param limit must be a number between 1 and {_MOST}")
    return int(text)


def _cursor(position: int) -> str:
    return base64.urlsafe_b64encode(f"AQH:{position}".encode()).decode().rstrip("=")


def _position(cursor: str) -> int:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        return int(text.removeprefix("AQH:"))
    except ValueError as bad:
        raise GraphError(100, message="(#100) Invalid cursor") from bad


def _link(request: web.Request, after: str) -> str:
    query = {name: value for name, value in request.query.items() if name not in {"after", "before"}}
    query |= {"access_token": access.bearer(request), "after": after}
    return f"{request.scheme}://{request.host}{request.path}?{urlencode(query)}"
