"""Moves a workspace between the shared partitions and its own, as the inbox process does."""

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Any

import asyncpg
from aerostic.tenants.v1.placement_service_pb2 import DedicatedTenant, ListDedicatedTenantsResponse
from grpc import StatusCode
from sender_rig import PARTITIONS, SECONDS, WORKER, Shop

from kit.errors import RemoteError
from svc_messaging.inbox.leaving import Leaving
from svc_messaging.inbox.placing import Placing


@dataclass
class Tenants:
    """What svc-tenants says, as a channel to it."""

    dedicated: dict[str, list[str]] = field(default_factory=dict)
    away: bool = False

    def stub(self, _kind: object) -> "Tenants":
        return self

    ListDedicatedTenants = None

    async def call(self, _method: object, _request: object, *, timeout: float) -> ListDedicatedTenantsResponse:
        if self.away:
            raise RemoteError(StatusCode.UNAVAILABLE, "away")
        return ListDedicatedTenantsResponse(
            tenants=[DedicatedTenant(tenant_id=each, phone_number_ids=of) for each, of in self.dedicated.items()]
        )


@dataclass
class Mover:
    """Placing, and what it is told."""

    tenants: Tenants
    placing: Placing
    shop: Shop

    def want(self, isolation: str) -> None:
        wanted = {str(self.shop.tenant_id): [self.shop.number]}
        self.tenants.dedicated = wanted if isolation == "dedicated" else {}
        self.placing.ask_anew()

    async def row(self) -> Any:
        return await self.shop.sql.fetchrow("SELECT * FROM placements WHERE tenant_id = $1", self.shop.tenant_id)

    async def step(self) -> bool:
        """As its process does it: where claims hold a change up for too long, it is tried again."""
        while True:
            with contextlib.suppress(asyncpg.LockNotAvailableError):
                return await self.placing.step()

    async def move(self, isolation: str) -> None:
        """Begin to move, and go no further."""
        self.want(isolation)
        await self.step()

    async def settled(self) -> None:
        async with asyncio.timeout(SECONDS):
            while await self.step():  # noqa: ASYNC110 (placing asks by itself otherwise)
                await asyncio.sleep(0.05)

    async def moved(self, isolation: str) -> None:
        await self.move(isolation)
        await self.settled()


def mover(db, bus, shop) -> Mover:
    tenants = Tenants()
    leaving = Leaving(db, WORKER, bus, meta_partitions=1, send_partitions=PARTITIONS)
    return Mover(tenants, Placing(db, WORKER, tenants, bus, leaving), shop)
