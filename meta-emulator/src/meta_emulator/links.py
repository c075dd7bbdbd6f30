"""Media given by link: Meta downloads it before it sends, and caches it for ten minutes by exact URL."""

import aiohttp

from meta_emulator import media, outcomes
from meta_emulator.emulator import Emulator
from meta_emulator.media import NewMedia
from meta_emulator.model import FetchDue, Media, Message, StatusDue

_CACHE_SECONDS = 600.0
_CHUNK = 64 * 1024


class FetchFailed(Exception):
    """The text goes into error_data.details."""


def on_due(em: Emulator, due: FetchDue) -> None:
    message = em.world.messages.get(due.wamid)
    if message is not None:
        em.spawn(_fetch_and_go_on(em, message))


async def _fetch_and_go_on(em: Emulator, message: Message) -> None:
    try:
        found = await _fetch(em, message, outcomes.link_of(message))
    except FetchFailed as failed:
        outcomes.fail(em, message, 131053, str(failed))
        return
    if reason := media.why_unusable(message.type, found):
        outcomes.fail(em, message, 131053, reason)
        return
    message.media_id = found.id
    behaviour = em.behaviour(em.number_of(message))
    em.schedule.after(em.draw(behaviour.sent_delay_seconds), StatusDue(message.wamid, "sent"))


async def _fetch(em: Emulator, message: Message, link: str) -> Media:
    cached_id, fetched_at = em.link_cache.get(link, ("", 0.0))
    cached = media.find(em, cached_id)
    if cached is not None and em.now() - fetched_at < _CACHE_SECONDS:
        return cached
    timeout = aiohttp.ClientTimeout(total=60)
    try:
        async with em.http.get(link, timeout=timeout) as answer:
            if answer.status != 200:
                raise FetchFailed(
                    f"Downloading media from weblink failed with http code {answer.status}, "
                    f"status message {answer.reason or 'unknown'}"
                )
            content = await _read(answer)
            mime_type = answer.content_type
    except TimeoutError as late:
        raise FetchFailed("Downloading media from weblink timed out") from late
    except (aiohttp.ClientError, OSError, ValueError) as failed:
        raise FetchFailed(f"Downloading media from weblink failed: {failed}") from failed
    found = media.store(em, em.number_of(message), NewMedia(content=content, mime_type=mime_type))
    em.link_cache[link] = (found.id, em.now())
    return found


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for chunk in answer.content.iter_chunked(_CHUNK):
        content += chunk
        if len(content) > media.BYTES_MAX:
            raise FetchFailed(f"Downloading media from weblink failed: larger than {media.BYTES_MAX} bytes")
    return bytes(content)
