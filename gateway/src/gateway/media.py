"""Files in and out: the two streaming calls of the contract, whose bytes are not JSON (ADR 0006).

At most a few pieces of a file are in memory, however large it is and however slow the client.
"""

import asyncio
import contextlib
import mimetypes
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, cast
from urllib.parse import quote

import grpc
import structlog
from aerostic.messaging.v1.media_service_pb2 import (
    DownloadMediaRequest,
    DownloadMediaResponse,
    Media,
    MediaDescription,
    UploadEnd,
    UploadMediaRequest,
)
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from gateway import body, edge, multipart, ranges
from gateway.backends import Backends, Caller, find_method
from gateway.multipart import Description
from gateway.problems import BodyTimeout, BodyTooLarge, ContentTypeUnsupported
from gateway.sessions import Sessions
from gateway.settings import GatewaySettings
from kit.errors import RemoteError
from kit.proto_json import to_json

log = structlog.get_logger()

UPLOAD = "aerostic.messaging.v1.MediaService.UploadMedia"
DOWNLOAD = "aerostic.messaging.v1.MediaService.DownloadMedia"
STREAMED = frozenset({UPLOAD, DOWNLOAD})
"""Methods that are served here instead of by the transcoder."""

_CHUNK_BYTES_MAX = 256 * 1024
# What a form adds to its file: boundaries, and the headers of the part.
_FORM_BYTES_MAX = 16 * 1024
_MIME_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+", re.ASCII)
# Shown by browsers in place. Everything else is saved, and so is SVG, which can hold scripts.
_SHOWN = ("image/", "audio/", "video/")
_SAVED = frozenset({"image/svg+xml"})
# Should a browser open the file as a page after all, then one that may do nothing.
_POLICY = "sandbox; default-src 'none'; img-src 'self'; media-src 'self'"


class Upload:
    """POST /v1/media: a form with one part `file`, or the file itself as the body."""

    def __init__(self, backends: Backends, sessions: Sessions, settings: GatewaySettings) -> None:
        self._method = find_method(UPLOAD)
        self._call = backends.upload(self._method, seconds=settings.media_seconds)
        self._sessions = sessions
        self._settings = settings

    async def answer(self, request: Request) -> Response:
        caller = self._sessions.caller(request, self._method)
        parts = self._parts(request)
        first = await anext(parts)
        # A queue of one: the next piece is read when the one before has been handed over.
        queue: asyncio.Queue[UploadMediaRequest | None] = asyncio.Queue(1)
        feeding = asyncio.create_task(_feed(first, parts, queue))
        calling = asyncio.create_task(self._call(_taken(queue), caller))
        try:
            await asyncio.wait({feeding, calling}, return_when=asyncio.FIRST_COMPLETED)
            if not calling.done() and feeding.exception():
                # The call is cancelled; without its end said aloud nothing of the file is kept.
                await feeding
            media = await calling
        except RemoteError as error:
            if error.code is grpc.StatusCode.DEADLINE_EXCEEDED and not feeding.done() and queue.empty():
                raise BodyTimeout from error
            raise
        finally:
            await _end(feeding, calling)
            # Whatever still waits for a piece ends.
            with contextlib.suppress(asyncio.QueueFull):
                queue.put_nowait(None)
        return Response(to_json(media), 200, {"Cache-Control": "no-store"}, "application/json")

    async def _parts(self, request: Request) -> AsyncIterator[UploadMediaRequest]:
        """The call's requests. Raises what `body.stream` raises, ContentTypeUnsupported or InvalidRequest."""
        seen = 0
        async for given in self._given(request):
            if isinstance(given, Description):
                description = MediaDescription(mime_type=given.mime_type, filename=given.filename)
                yield UploadMediaRequest(description=description)
                continue
            seen += len(given)
            if seen > self._settings.media_bytes_max:
                raise BodyTooLarge(self._settings.media_bytes_max)
            for start in range(0, len(given), _CHUNK_BYTES_MAX):
                yield UploadMediaRequest(chunk=given[start : start + _CHUNK_BYTES_MAX])
        yield UploadMediaRequest(end=UploadEnd(size_bytes=seen))

    async def _given(self, request: Request) -> AsyncIterator[Description | bytes]:
        settings = self._settings
        encoding = request.headers.get("content-encoding", "identity")
        if encoding.lower() != "identity":
            raise ContentTypeUnsupported("Content-Encoding", "must be absent: files are taken as they are")
        content_type = request.headers.get("content-type", "")
        mime_type = multipart.mime_type(content_type)
        if not mime_type:
            raise ContentTypeUnsupported("Content-Type", "must be multipart/form-data, or the file's own type")
        if mime_type == multipart.MEDIA_TYPE:
            self._refuse_early(request)
            bytes_max = settings.media_bytes_max + _FORM_BYTES_MAX
            pieces = body.stream(request, bytes_max=bytes_max, seconds_max=settings.body_seconds)
            async for given in multipart.read(pieces, content_type):
                yield given
        else:
            yield Description(mime_type, multipart.filename(request.headers.get("content-disposition", "")))
            async for piece in body.stream(
                request, bytes_max=settings.media_bytes_max, seconds_max=settings.body_seconds
            ):
                yield piece

    def _refuse_early(self, request: Request) -> None:
        """Name the limit of files, not that of forms."""
        length = int(request.headers.get("content-length", "0"))
        if length > self._settings.media_bytes_max + _FORM_BYTES_MAX:
            raise BodyTooLarge(self._settings.media_bytes_max)


class Download:
    """GET /v1/media/{media_id}/content, as ASGI: the answer is sent while it arrives."""

    def __init__(self, backends: Backends, sessions: Sessions, settings: GatewaySettings) -> None:
        self._method = find_method(DOWNLOAD)
        self._call = backends.download(self._method, seconds=settings.media_seconds)
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        caller = self._sessions.caller(request, self._method)
        async with aclosing(self._answers(request, caller)) as answers:
            # The first answer describes the file; a refusal comes in its place, while we can still say so.
            first = await anext(answers)
            response = _response(request, first, answers)
            await response(scope, receive, send)

    async def _answers(self, request: Request, caller: Caller) -> AsyncGenerator[DownloadMediaResponse, None]:
        wanted = DownloadMediaRequest(media_id=request.path_params["media_id"])
        async with aclosing(self._call(wanted, caller)) as answers:
            async for answer in answers:
                yield cast("DownloadMediaResponse", answer)


def routes(backends: Backends, sessions: Sessions, settings: GatewaySettings) -> list[BaseRoute]:
    return [
        Route("/v1/media", Upload(backends, sessions, settings).answer, methods=["POST"]),
        Route("/v1/media/{media_id}/content", Download(backends, sessions, settings), methods=["GET"]),
    ]


async def _feed(
    first: UploadMediaRequest,
    parts: AsyncIterator[UploadMediaRequest],
    queue: asyncio.Queue[UploadMediaRequest | None],
) -> None:
    await queue.put(first)
    async for part in parts:
        await queue.put(part)
    await queue.put(None)


async def _taken(queue: asyncio.Queue[UploadMediaRequest | None]) -> AsyncIterator[UploadMediaRequest]:
    while (part := await queue.get()) is not None:
        yield part


async def _end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel what still runs, and wait for it; what it raises has been told already, or does not matter any more."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()


def _response(
    request: Request, first: DownloadMediaResponse, answers: AsyncIterator[DownloadMediaResponse]
) -> Response:
    media = first.media
    headers = _headers(media)
    if _is_known(request.headers.get("if-none-match", ""), headers["ETag"]):
        return Response(status_code=304, headers={name: headers[name] for name in ("ETag", "Cache-Control")})
    wanted = None
    if request.headers.get("if-range", headers["ETag"]) == headers["ETag"]:
        wanted = ranges.parse(request.headers.get("range"), media.size_bytes)
    status = 200
    if wanted is not None:
        status = 206
        headers["Content-Range"] = f"bytes {wanted.start}-{wanted.stop - 1}/{media.size_bytes}"
    wanted = wanted or range(media.size_bytes)
    headers["Content-Length"] = str(len(wanted))
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    return StreamingResponse(_content(request, first, answers, wanted), status, headers)


async def _content(
    request: Request, first: DownloadMediaResponse, answers: AsyncIterator[DownloadMediaResponse], wanted: range
) -> AsyncIterator[bytes]:
    """The wanted bytes. Where they end too early the connection is cut: half a file must not look like a whole one."""
    offset, missing = 0, len(wanted)
    piece = first.chunk
    try:
        while missing:
            part = ranges.cut(piece, offset, wanted)
            offset, missing = offset + len(piece), missing - len(part)
            if part:
                yield part
            if missing:
                piece = (await anext(answers)).chunk
    except (RemoteError, StopAsyncIteration) as error:
        log.warning("media_download_cut", media=first.media.id, missing_bytes=missing, error=repr(error))
        edge.abort(request.scope)
        # Let the server notice before it is told that this is the end.
        await asyncio.sleep(0)


def _headers(media: Media) -> dict[str, str]:
    mime_type = media.mime_type.partition(";")[0].strip().lower()
    if not _MIME_TYPE.fullmatch(mime_type):
        mime_type = "application/octet-stream"
    is_shown = mime_type.startswith(_SHOWN) and mime_type not in _SAVED
    return {
        "Content-Type": mime_type,
        "Content-Disposition": _disposition(media, mime_type, is_shown=is_shown),
        "ETag": f'"{media.sha256}"',
        # May be kept by the browser that got it, and is asked for again each time: access may have been withdrawn.
        "Cache-Control": "private, no-cache",
        "Accept-Ranges": "bytes",
        "Content-Security-Policy": _POLICY,
        "X-Content-Type-Options": "nosniff",
    }


def _disposition(media: Media, mime_type: str, *, is_shown: bool) -> str:
    """RFC 6266: a name in plain ASCII for old clients, and the true one."""
    name = media.filename or f"{media.id}{mimetypes.guess_extension(mime_type) or ''}"
    plain = "".join(
        letter if letter.isascii() and letter.isprintable() and letter not in '"\\%' else "_" for letter in name
    )
    kind = "inline" if is_shown else "attachment"
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _is_known(if_none_match: str, etag: str) -> bool:
    return any(tag.strip().removeprefix("W/") in {etag, "*"} for tag in if_none_match.split(","))
