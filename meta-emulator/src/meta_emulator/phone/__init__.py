"""The phone page: static files, no build step, nothing from other hosts."""

from pathlib import Path

from aiohttp import web

_STATIC = Path(__file__).parent / "static"
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
# Said here, since what a machine's own table of types says varies, and browsers refuse a script of another type.
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def add(app: web.Application) -> None:
    app.router.add_get("/", _page)
    app.router.add_get(r"/phone/{path:[a-z0-9/_-]+\.(?:css|js|svg)}", _file)


async def _page(request: web.Request) -> web.StreamResponse:
    del request
    return _answer(_STATIC / "index.html")


async def _file(request: web.Request) -> web.StreamResponse:
    # The pattern admits no dots but the one of the ending, so the path stays inside the folder.
    path = _STATIC / request.match_info["path"]
    if not path.is_file():
        raise web.HTTPNotFound
    return _answer(path)


def _answer(path: Path) -> web.StreamResponse:
    return web.FileResponse(path, headers={**_HEADERS, "Content-Type": _TYPES[path.suffix]})
