"""Outbound files: upload to Meta once per sending number, then send by Meta's id.

Meta keeps an upload for 30 days; it is used for 29 and then uploaded anew.
"""

from collections.abc import AsyncIterator
from datetime import timedelta

import aiohttp

from kit.db import Database, Row
from kit.principal import Principal
from svc_messaging.sender.credentials import Credentials
from svc_messaging.sender.graph import Answer, GraphClient

_META_KEEPS = timedelta(days=29)

_FIND = """
    SELECT mime_type, filename, meta_media_id, phone_number_id,
           COALESCE(meta_uploaded_at > now() - $3::interval, false) AS still_there
    FROM media WHERE tenant_id = $1 AND id = $2
"""
_REMEMBER = """
    UPDATE media SET meta_media_id = $3, phone_number_id = $4, meta_uploaded_at = now()
    WHERE tenant_id = $1 AND id = $2
"""
_CHUNK = "SELECT data FROM media_chunks WHERE tenant_id = $1 AND media_id = $2 AND number = $3"


class UploadRefused(Exception):
    """Meta did not take the file; its answer says why."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"HTTP {answer.status}")
        self.answer = answer


class MediaUploads:
    """Gives Meta's id of a stored file, uploading it when Meta does not have it."""

    def __init__(self, db: Database, worker: Principal, graph: GraphClient) -> None:
        self._db = db
        self._worker = worker
        self._graph = graph

    async def meta_id(self, message: Row, credentials: Credentials) -> str:
        """Raises UploadRefused, NotReached or AnswerLost; in each case the message itself was not sent."""
        key = (message["tenant_id"], message["media_id"])
        async with self._db.begin(self._worker) as tx:
            media = await tx.fetchrow(_FIND, *key, _META_KEEPS)
        assert media is not None, "a message refers to a file that does not exist"
        if media["still_there"] and media["phone_number_id"] == credentials.phone_number_id:
            return str(media["meta_media_id"])
        form = aiohttp.FormData()
        form.add_field("messaging_product", "whatsapp")
        form.add_field("type", media["mime_type"])
        name = media["filename"] or "file"
        form.add_field("file", self._bytes(message), filename=name, content_type=media["mime_type"])
        answer = await self._graph.upload(f"{credentials.phone_number_id}/media", form, token=credentials.access_token)
        meta_id = answer.body.get("id")
        if answer.status != 200 or not isinstance(meta_id, str):
            raise UploadRefused(answer)
        async with self._db.begin(self._worker) as tx:
            await tx.execute(_REMEMBER, *key, meta_id, credentials.phone_number_id)
        return meta_id

    async def _bytes(self, message: Row) -> AsyncIterator[bytes]:
        number = 0
        while True:
            async with self._db.begin(self._worker) as tx:
                data = await tx.fetchval(_CHUNK, message["tenant_id"], message["media_id"], number)
            if data is None:
                return
            yield data
            number += 1
