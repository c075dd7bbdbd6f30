"""One operator acts: the one that holds the Lease. Another takes over when it was given back, or no longer renewed."""

import asyncio
import time
from datetime import UTC, datetime

import structlog

from aerostic_operator import metrics
from aerostic_operator.kube import Kube, KubeError
from aerostic_operator.objects import Json

log = structlog.get_logger()

_NOBODY = ""
_PAUSE_SECONDS_MAX = 2.0


class LeadershipLost(Exception):
    """Somebody else may act by now. The process must end at once."""


class Leadership:
    """The Lease `name` in a namespace, wanted by `identity`."""

    def __init__(self, kube: Kube, *, namespace: str, name: str, identity: str, life_seconds: float = 15) -> None:
        self._kube = kube
        self._folder = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._name = name
        self._identity = identity
        self._life = life_seconds
        self._pause = min(_PAUSE_SECONDS_MAX, life_seconds / 7)
        # When the holder's last renewal was seen here; clocks of two machines are not compared.
        self._seen: tuple[tuple[str, str], float] = (("", ""), 0.0)

    async def acquire(self) -> None:
        """Wait until we are the one."""
        while not await self._try():  # noqa: ASYNC110 (the API server tells nobody in time)
            await asyncio.sleep(self._pause)
        metrics.leader.set(1)
        log.info("leadership_acquired", identity=self._identity)

    async def hold(self) -> None:
        """Renew until cancelled. Raises LeadershipLost before anybody else may take over."""
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(self._pause)
            # A call that hangs must not outlast the lease.
            patience = max(0.1, renewed + self._life * 2 / 3 - time.monotonic())
            began = time.monotonic()
            try:
                async with asyncio.timeout(patience):
                    is_ours = await self._try()
            except TimeoutError:
                is_ours = False
            if is_ours:
                renewed = began
            elif time.monotonic() - renewed > self._life * 2 / 3:
                metrics.leader.set(0)
                raise LeadershipLost(f"the lease {self._name} was not renewed for {self._life * 2 / 3:.0f} s")

    async def release(self) -> None:
        """Give it back, so that another need not wait."""
        metrics.leader.set(0)
        try:
            lease = await self._kube.find(f"{self._folder}/{self._name}")
            if lease and lease["spec"].get("holderIdentity") == self._identity:
                lease["spec"]["holderIdentity"] = _NOBODY
                await self._kube.replace(f"{self._folder}/{self._name}", lease)
        except KubeError as error:
            log.warning("lease_not_released", error=str(error))

    async def _try(self) -> bool:
        """Whether we hold it now. A server that is away, or another who was quicker, means no."""
        try:
            lease = await self._kube.find(f"{self._folder}/{self._name}")
            if lease is None:
                await self._kube.create(self._folder, self._lease())
                return True
            if not self._is_free(lease):
                return False
            spec = lease.get("spec") or {}
            is_new = spec.get("holderIdentity") != self._identity
            changes = int(spec.get("leaseTransitions") or 0) + is_new
            lease["spec"] = {**spec, **self._lease()["spec"], "leaseTransitions": changes}
            await self._kube.replace(f"{self._folder}/{self._name}", lease)
        except KubeError as error:
            log.debug("lease_not_ours", error=str(error))
            return False
        return True

    def _is_free(self, lease: Json) -> bool:
        spec = lease.get("spec") or {}
        holder, renewed = spec.get("holderIdentity") or _NOBODY, spec.get("renewTime") or ""
        if holder in {_NOBODY, self._identity}:
            return True
        if self._seen[0] != (holder, renewed):
            self._seen = ((holder, renewed), time.monotonic())
        return time.monotonic() - self._seen[1] > float(spec.get("leaseDurationSeconds") or self._life)

    def _lease(self) -> Json:
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        spec = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._life)),
            "acquireTime": now,
            "renewTime": now,
        }
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": self._name}, "spec": spec}
