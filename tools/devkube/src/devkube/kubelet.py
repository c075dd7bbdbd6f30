"""A kubelet that runs nothing: its nodes are ready, and every pod on them is, at once, what it would become.

Pods of Jobs succeed; all others run and are ready; what is being deleted is gone. An annotation makes one fail.
"""

import asyncio
import datetime as dt
import itertools
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from devkube.api import Api, ApiError, Object

FAILS = "devkube.aerostic.io/fails"
"""A pod with this annotation fails, with the annotation's value as its message."""

_POD_NUMBERS_MAX = 60_000
_CAPACITY = {"cpu": "64", "memory": "256Gi", "pods": "2000", "ephemeral-storage": "1Ti"}


class Kubelet:
    """Of all nodes at once: `async with Kubelet(api, nodes=3)`."""

    def __init__(self, api: Api, *, nodes: int) -> None:
        self._api = api
        self._names = [f"node-{number}" for number in range(1, nodes + 1)]
        self._numbers = itertools.cycle(range(2, _POD_NUMBERS_MAX))
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        for name in self._names:
            await self._add_node(name)
        self._task = asyncio.create_task(self._follow_pods())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _add_node(self, name: str) -> None:
        labels = {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": f"zone-{name}"}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": {}}
        await self._api.create("/api/v1/nodes", node)
        ready = {**_condition("Ready"), "reason": "KubeletReady", "message": "nothing runs here"}
        status = {"capacity": _CAPACITY, "allocatable": _CAPACITY, "conditions": [ready]}
        await self._api.patch(f"/api/v1/nodes/{name}/status", {"status": status})

    async def _follow_pods(self) -> None:
        """Watches end by themselves after minutes; a fresh one tells everything anew."""
        while True:
            async for kind, pod in self._api.watch("/api/v1/pods", fieldSelector="spec.nodeName!="):
                if kind in {"ADDED", "MODIFIED"}:
                    await self._settle(pod)

    async def _settle(self, pod: Object) -> None:
        meta = pod["metadata"]
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        try:
            if "deletionTimestamp" in meta:
                await self._api.delete(path, gracePeriodSeconds="0")
            elif pod["status"].get("phase", "Pending") == "Pending":
                await self._api.patch(f"{path}/status", {"status": self._status(pod)})
        except ApiError as error:
            if error.status not in {404, 409}:
                raise

    def _status(self, pod: Object) -> Object:
        owners = {owner["kind"] for owner in pod["metadata"].get("ownerReferences", ())}
        failure = pod["metadata"].get("annotations", {}).get(FAILS)
        number = next(self._numbers)
        status: Object = {"startTime": _now(), "podIP": f"10.244.{number // 250}.{number % 250 + 1}"}
        spec = pod["spec"]
        if failure is not None or "Job" in owners:
            state = _terminated(0 if failure is None else 1, failure or "")
            return {
                **status,
                "phase": "Succeeded" if failure is None else "Failed",
                "message": failure or "",
                "conditions": [_condition("PodScheduled")],
                "containerStatuses": [_container(each, state, ready=False) for each in spec["containers"]],
            }
        running = {"running": {"startedAt": _now()}}
        done = _terminated(0, "")
        types = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
        return {
            **status,
            "phase": "Running",
            "conditions": [_condition(each) for each in types],
            "containerStatuses": [_container(each, running, ready=True) for each in spec["containers"]],
            "initContainerStatuses": [
                _container(each, running if each.get("restartPolicy") == "Always" else done, ready=True)
                for each in spec.get("initContainers", ())
            ],
        }


def _container(container: Mapping[str, Any], state: Object, *, ready: bool) -> Object:
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": f"devkube://{container['image']}",
        "ready": ready,
        "started": ready,
        "restartCount": 0,
        "state": state,
    }


def _terminated(code: int, message: str) -> Object:
    reason = "Error" if code else "Completed"
    return {
        "terminated": {
            "exitCode": code,
            "reason": reason,
            "message": message,
            "startedAt": _now(),
            "finishedAt": _now(),
        }
    }


def _condition(kind: str) -> Object:
    return {"type": kind, "status": "True", "lastTransitionTime": _now(), "lastHeartbeatTime": _now()}


def _now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
