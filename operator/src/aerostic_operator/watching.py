"""Kopf as our eyes: it lists and watches objects, survives dropped connections, and hands us what it sees.

It runs in a thread with an event loop of its own, since it takes all tasks and signals of a loop for its own. It gets
handlers of raw events only: those write nothing, neither annotations nor finalizers, and no object's spec is copied.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any

import kopf
import uvloop

from aerostic_operator.kube import credentials
from aerostic_operator.objects import GROUP, VERSION, Body

Seen = Callable[[str, str | None, Body], None]
"""Takes plural, event (None while listing) and object, in the loop of whoever watches."""

_WORKERS = 32
_IDLE_SECONDS = 0.05
_LIST_CHUNK = 500


async def watch(plurals: Iterable[str], seen: Seen) -> None:
    """Until cancelled. Ends with an exception if watching is not possible any more."""
    # It says of each event that it was handled, and of its thread that it gets no signals.
    logging.getLogger("kopf").setLevel(logging.WARNING)
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
    loop = asyncio.get_running_loop()
    registry = kopf.OperatorRegistry()
    for plural in plurals:
        _register(registry, plural, loop, seen)
    stop = threading.Event()

    @kopf.on.login(registry=registry)
    def login(**_: Any) -> kopf.ConnectionInfo:
        return credentials()

    thread = asyncio.create_task(asyncio.to_thread(_run, registry, stop))
    try:
        await asyncio.shield(thread)
    finally:
        stop.set()
        await thread


def _register(registry: kopf.OperatorRegistry, plural: str, loop: asyncio.AbstractEventLoop, seen: Seen) -> None:
    @kopf.on.event(GROUP, VERSION, plural, registry=registry)
    async def changed(event: Any, **_: Any) -> None:
        loop.call_soon_threadsafe(seen, plural, event["type"], event["object"])


def _run(registry: kopf.OperatorRegistry, stop: threading.Event) -> None:
    uvloop.run(
        kopf.operator(registry=registry, settings=_settings(), clusterwide=True, standalone=True, stop_flag=stop)
    )


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    # Both or neither: a worker stays with its object for the idle time.
    settings.queueing.worker_limit = _WORKERS
    settings.queueing.idle_timeout = _IDLE_SECONDS
    settings.watching.chunk_size = _LIST_CHUNK
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 310
    settings.watching.connect_timeout = 30
    settings.networking.request_timeout = 60
    settings.persistence.diffbase_storage = _NoEssence()
    # Our own events, and no rights to look at namespaces and definitions.
    settings.posting.enabled = False
    settings.scanning.disabled = True
    return settings


class _NoEssence(kopf.DiffBaseStorage):
    """Kopf copies and compares what each object was like when it was handled last, even if no handler asks for that."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None
