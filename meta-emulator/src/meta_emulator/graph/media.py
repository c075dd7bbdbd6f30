"""Media endpoints: upload, metadata, download by signed URL, delete (whatsapp-cloud-api.md section 7)."""

from aiohttp import BodyPartReader, web

from meta_emulator import faults, media
from meta_emulator.app_key import EMULATOR
from meta_emulator.emulator import Emulator
from meta_emulator.graph import access, params, replies, requests
from meta_emulator.graph.errors import GraphError, missing_object
from meta_emulator.media import NewMedia
from meta_emulator.model import MESSAGING_SCOPE, Json, Media, Token

_CHUNK = 256 * 1024


async def upload(request: web.Request) -> web.Response:
    em = request.app[EMULATOR]
    number = access.number(em, access.token_of(em, request), request.match_info["node"])
    access.require_ready(number)
    fields, content, part_type, filename = await _read_form(request)
    requests.require_product({**dict(request.query), **fields})
    if content is None:
        raise GraphError(100, message="(#100) The parameter file is required.")
    mime_type = fields.get("type") or part_type
    media.require_uploadable(mime_type, len(content))
    stored = media.store(em, number, NewMedia(content=content, mime_type=mime_type, filename=filename))
    return replies.ok({"id": stored.id})


def describe(em: Emulator, request: web.Request, token: Token, found: Media) -> web.Response:
    _require_reach(token, found, "get")
    wanted = request.query.get("phone_number_id")
    if wanted is not None and wanted != found.number_id:
        raise missing_object(found.id, "get")
    base = em.settings.public_url.rstrip("/") or f"{request.scheme}://{request.host}"
    return replies.ok(
        {
            "messaging_product": "whatsapp",
            "url": media.url(em, found, base),
            "mime_type": found.mime_type,
            "sha256": found.sha256,
            "file_size": found.size,
            "id": found.id,
        }
    )


def delete(em: Emulator, token: Token, found: Media) -> web.Response:
    _require_reach(token, found, "delete")
    media.delete(em, found)
    return replies.success()


async def download(request: web.Request) -> web.Response:
    """What lookaside.fbsbx.com does: 401 without a token, 404 for anything wrong with the URL."""
    em = request.app[EMULATOR]
    token = access.token_of(em, request)
    query = request.query
    found = media.by_url(em, query.get("mid", ""), query.get("ext", ""), query.get("hash", ""))
    if found is None or found.waba_id not in token.waba_ids:
        return web.Response(status=404, text="Not Found")
    if (fault := faults.take(em, "media_download", em.world.numbers.get(found.number_id))) is not None:
        await em.clock.sleep(fault.seconds)
        return web.Response(status=fault.http_status or 404, text="Not Found")
    content = em.media_bytes.get(found.id)
    if content is None:
        return web.Response(status=404, text="Not Found")
    return web.Response(body=content, headers={"Content-Type": found.mime_type})


def _require_reach(token: Token, found: Media, verb: str) -> None:
    if found.waba_id not in token.waba_ids or MESSAGING_SCOPE not in token.scopes:
        raise missing_object(found.id, verb)


async def _read_form(request: web.Request) -> tuple[Json, bytes | None, str, str]:
    """Text fields, the file's bytes, its declared type and name."""
    fields: Json = {}
    content, part_type, filename = None, "", ""
    if request.content_type != "multipart/form-data":
        return await params.read(request), None, "", ""
    try:
        reader = await request.multipart()
        while (part := await reader.next()) is not None:
            if not isinstance(part, BodyPartReader):
                continue
            if part.name == "file":
                content = await _read_file(part)
                part_type, filename = part.headers.get("Content-Type", ""), part.filename or ""
            elif part.name:
                fields[part.name] = await part.text()
    except ValueError as malformed:
        raise GraphError(100, message="(#100) The multipart body could not be read.") from malformed
    return fields, content, part_type, filename


async def _read_file(part: BodyPartReader) -> bytes:
    content = bytearray()
    while chunk := await part.read_chunk(_CHUNK):
        content += chunk
        if len(content) > media.BYTES_MAX:
            raise GraphError(131053, details=f"File size exceeds the limit of {media.BYTES_MAX} bytes.")
    return bytes(content)
