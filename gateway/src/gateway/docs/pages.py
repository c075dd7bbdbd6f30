"""Static files of the reference, held in memory and asked for again only when they have changed."""

import asyncio
import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

PATH = "/docs"
DOCUMENT_PATH = "/openapi.json"

_PAGE = "page.html"
_TYPES = {
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "app.js": "text/javascript; charset=utf-8",
    "operations.js": "text/javascript; charset=utf-8",
    "schemas.js": "text/javascript; charset=utf-8",
    "examples.js": "text/javascript; charset=utf-8",
    "markup.js": "text/javascript; charset=utf-8",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    media_type: str
    etag: str

    @classmethod
    def of(cls, content: bytes, media_type: str) -> "_File":
        return cls(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')

    async def answer(self, request: Request) -> Response:
        headers = {"ETag": self.etag, "Cache-Control": "no-cache", "Content-Security-Policy": _POLICY}
        known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
        if self.etag in known:
            return Response(status_code=304, headers=headers)
        return Response(self.content, headers={**headers, "Content-Type": self.media_type})


def routes(document: Callable[[], Mapping[str, Any]]) -> list[BaseRoute]:
    """`document` is made when it is first asked for: it takes a tenth of the gateway's start."""
    folder = resources.files(__package__)
    files = {f"{PATH}/{name}": _File.of((folder / name).read_bytes(), kind) for name, kind in _TYPES.items()}
    files[PATH] = _File.of((folder / _PAGE).read_bytes(), "text/html; charset=utf-8")

    @functools.cache
    def printed() -> _File:
        return _File.of(msgspec.json.encode(document()), "application/json")

    async def answer_document(request: Request) -> Response:
        file = await asyncio.to_thread(printed)
        return await file.answer(request)

    served = [Route(path, file.answer, methods=["GET"]) for path, file in files.items()]
    return [*served, Route(DOCUMENT_PATH, answer_document, methods=["GET"])]
