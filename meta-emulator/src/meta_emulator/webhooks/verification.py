"""The GET with hub.challenge that proves a callback wants our webhooks."""

import aiohttp

from meta_emulator.emulator import Emulator

_ANSWER_BYTES_MAX = 1024


class CallbackRefused(Exception):
    """The callback did not echo the challenge; the text says what it did instead."""


async def verify(em: Emulator, url: str, verify_token: str) -> None:
    challenge = str(em.random.randrange(10**9, 10**10))
    query = {"hub.mode": "subscribe", "hub.challenge": challenge, "hub.verify_token": verify_token}
    timeout = aiohttp.ClientTimeout(total=em.settings.webhook_timeout_seconds)
    try:
        async with em.http.get(url, params=query, timeout=timeout, allow_redirects=False) as answer:
            status, body = answer.status, await answer.content.read(_ANSWER_BYTES_MAX)
    except TimeoutError as late:
        raise CallbackRefused("the callback did not answer in time") from late
    except (aiohttp.ClientError, OSError, ValueError) as failed:
        raise CallbackRefused(f"the callback could not be reached: {failed}") from failed
    if status != 200:
        raise CallbackRefused(f"the callback answered HTTP {status} instead of 200")
    if body != challenge.encode():
        raise CallbackRefused("the callback did not answer with the plain challenge")
