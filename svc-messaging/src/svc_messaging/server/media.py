"""MediaService."""

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from aerostic.messaging.v1 import media_service_pb2
from aerostic.messaging.v1.media_service_pb2_grpc import MediaServiceServicer

from kit.db import Database
from kit.errors import InvalidRequest, Overloaded, Violation
from kit.principal import current_principal
from svc_messaging import convert, media
from svc_messaging.errors import MediaIncomplete
from svc_messaging.media import Upload

_UPLOADS_MAX = 16
"""At once: each may hold 100 MB of temporary space."""
_CHUNKS_AT_ONCE = 4


class MediaServer(MediaServiceServicer):
    def __init__(self, db: Database) -> None:
        self._db = db
        self._uploads = 0

    async def UploadMedia(
        self, request_iterator: AsyncIterator[media_service_pb2.UploadMediaRequest], context: object
    ) -> media_service_pb2.Media:
        principal = current_principal()
        tenant_id = principal.require_tenant()
        with self._place(), await _described(request_iterator) as upload:
            await _fill(upload, request_iterator)
            async with self._db.begin(principal) as tx:
                return convert.media_proto(await media.store(tx, tenant_id, upload))

    async def GetMedia(self, request: media_service_pb2.GetMediaRequest, context: object) -> media_service_pb2.Media:
        principal = current_principal()
        async with self._db.begin(principal) as tx:
            return convert.media_proto(await media.get(tx, principal.require_tenant(), uuid.UUID(request.media_id)))

    async def DownloadMedia(
        self, request: media_service_pb2.DownloadMediaRequest, context: object
    ) -> AsyncIterator[media_service_pb2.DownloadMediaResponse]:
        principal = current_principal()
        tenant_id, media_id = principal.require_tenant(), uuid.UUID(request.media_id)
        async with self._db.begin(principal) as tx:
            row = await media.get_ready(tx, tenant_id, media_id)
        described: media_service_pb2.Media | None = convert.media_proto(row)
        sent = 0
        # A slow reader must not hold a transaction, so each few chunks are read in one of their own.
        while True:
            async with self._db.begin(principal) as tx:
                chunks = await media.chunks(tx, tenant_id, media_id, first=sent, most=_CHUNKS_AT_ONCE)
            for chunk in chunks:
                yield media_service_pb2.DownloadMediaResponse(chunk=chunk, media=described)
                described = None
            sent += len(chunks)
            if len(chunks) < _CHUNKS_AT_ONCE:
                break
        if described is not None:
            yield media_service_pb2.DownloadMediaResponse(media=described)

    async def RetryMedia(
        self, request: media_service_pb2.RetryMediaRequest, context: object
    ) -> media_service_pb2.Media:
        principal = current_principal()
        async with self._db.begin(principal) as tx:
            return convert.media_proto(await media.retry(tx, principal.require_tenant(), uuid.UUID(request.media_id)))

    @contextmanager
    def _place(self) -> Iterator[None]:
        if self._uploads >= _UPLOADS_MAX:
            raise Overloaded("Too many files are uploaded at once; try again shortly.", retry_after=2)
        self._uploads += 1
        try:
            yield
        finally:
            self._uploads -= 1


async def _described(requests: AsyncIterator[media_service_pb2.UploadMediaRequest]) -> Upload:
    """Begin an upload with its first request. Raises MediaIncomplete and MediaTypeUnsupported."""
    async for request in requests:
        if request.WhichOneof("part") != "description":
            raise InvalidRequest.of(Violation("description", "upload.order", "must come before the bytes"))
        return Upload(request.description.mime_type, request.description.filename)
    raise MediaIncomplete


async def _fill(upload: Upload, requests: AsyncIterator[media_service_pb2.UploadMediaRequest]) -> None:
    """Take the bytes up to the end that is said aloud. Raises MediaIncomplete."""
    async for request in requests:
        match request.WhichOneof("part"):
            case "chunk":
                upload.add(request.chunk)
            case "end":
                upload.end(size_bytes=request.end.size_bytes)
                return
            case _:
                must = "must come once, before the bytes"
                raise InvalidRequest.of(Violation("description", "upload.order", must))
    raise MediaIncomplete
