"""A disk of the engines is full for a while: the product refuses honestly, keeps what it acknowledged, and goes on."""

import asyncio
import os

import pytest

from devstack.disks import may_mount, small
from devstack.stack import Stack
from devstack.traffic import Load, Traffic
from devstack.workspace import until

LOAD = Load(webhooks=20, answers=8, customers=20)
FULL_SECONDS = float(os.environ.get("AEROSTIC_CHAOS_OUTAGE_SECONDS", "3"))

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(600),
    pytest.mark.skipif("AEROSTIC_CHAOS_MINUTES" not in os.environ, reason="runs by `make chaos`"),
    pytest.mark.skipif(bool(why := may_mount()), reason=f"NOT PROVEN HERE: {why}"),
]


def refused(traffic: Traffic, what: str):
    async def look() -> bool | None:
        return any(name.startswith(what) for name in traffic.ledger.refusals) or None

    return look


@pytest.mark.parametrize(("engine", "mebibytes", "what"), [("nats", 64, "webhook 503"), ("postgres", 256, "api 503")])
async def test_a_full_disk_is_told_and_costs_nothing(tmp_path, engine, mebibytes, what) -> None:
    with small(tmp_path / "data" / engine, mebibytes=mebibytes) as disk:
        async with Stack(tmp_path, free_ports=True) as stack, Traffic.on(stack, LOAD) as traffic:
            await traffic.flows()
            disk.fill()
            await until(refused(traffic, what), f"{what} while the disk of {engine} is full")
            await asyncio.sleep(FULL_SECONDS)

            async def clear() -> None:
                disk.clear()

            recovery = await traffic.recovery_after(clear)
            print(f"{engine}: {recovery}; on the way {traffic.ledger.refusals}")
            found = await traffic.finish(seconds=120)
    found.assert_nothing_lost()
