"""Events: what people find beside an object. They are told behind the work, not in its way.

An event is worth less than the status of the next object, and costs the API server as much as a small object. So while
objects wait to be looked at, few events are written, and once none waits, all that were kept back are. They come and go
in Kubernetes too: of more than are kept here, and of those that the API server refuses, the log tells instead.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from aerostic_operator import metrics
from aerostic_operator.kube import Kube, KubeError
from aerostic_operator.objects import Body, Json

log = structlog.get_logger()

_KEPT_MAX = 4096
_PAUSE_SECONDS = 0.1
_NAME_MAX = 230
_MESSAGE_MAX = 1000
_DEFAULT_NAMESPACE = "default"
"""Where events about objects without a namespace are."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something that people should find among the object's events."""

    reason: str
    message: str
    is_warning: bool = False


class Events:
    """`tell` keeps what is to be told; `run` writes it until cancelled, and `flush` what is left then."""

    def __init__(self, kube: Kube, *, is_busy: Callable[[], bool]) -> None:
        """`is_busy`: whether objects wait to be looked at."""
        self._kube = kube
        self._is_busy = is_busy
        self._kept: deque[Json] = deque()
        self._some = asyncio.Event()

    def tell(self, body: Body, note: Note) -> None:
        """It waits for nothing, and nothing waits for it."""
        if len(self._kept) >= _KEPT_MAX:
            _lost(body["kind"], body["metadata"]["name"], note.reason, "too many wait to be told")
            return
        self._kept.append(_event(body, note))
        self._some.set()

    async def run(self) -> None:
        while True:
            await self._some.wait()
            await self._write()
            if self._is_busy():
                await asyncio.sleep(_PAUSE_SECONDS)

    async def flush(self, seconds: float) -> None:
        """Write what is kept, as far as it takes no longer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._kept:
                    await self._write()

    async def _write(self) -> None:
        """The oldest. It is forgotten only then: one that was cancelled is written again, under the same name."""
        event = self._kept[0]
        about = event["involvedObject"]
        metrics.writes.labels(about["kind"], "event").inc()
        try:
            await self._kube.create(f"/api/v1/namespaces/{event['metadata']['namespace']}/events", event)
        except KubeError as error:
            if not error.is_conflict:
                _lost(about["kind"], about["name"], event["reason"], str(error))
        self._kept.popleft()
        if not self._kept:
            self._some.clear()


def _event(body: Body, note: Note) -> Json:
    meta = body["metadata"]
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "metadata": {
            "name": f"{meta['name'][:_NAME_MAX]}.{time.time_ns():x}",
            "namespace": meta.get("namespace", _DEFAULT_NAMESPACE),
        },
        "involvedObject": {
            "apiVersion": body["apiVersion"],
            "kind": body["kind"],
            "name": meta["name"],
            "namespace": meta.get("namespace", ""),
            "uid": meta["uid"],
            "resourceVersion": meta["resourceVersion"],
        },
        "type": "Warning" if note.is_warning else "Normal",
        "reason": note.reason,
        "message": note.message[:_MESSAGE_MAX],
        "source": {"component": "aerostic-operator"},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }


def _lost(kind: str, name: str, reason: str, error: str) -> None:
    log.warning("event_lost", kind=kind, name=name, reason=reason, error=error)
