"""Hundreds of random SIGKILLs under load; `make chaos MINUTES=10` runs it."""

import asyncio
import collections
import os
import random
import time

import pytest

from devstack.stack import Stack
from devstack.traffic import VICTIMS, Traffic

MINUTES = float(os.environ.get("AEROSTIC_CHAOS_MINUTES", "0"))
PAUSE_SECONDS = (0.2, 3.0)

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(int(MINUTES * 60) + 600),
    pytest.mark.skipif(not MINUTES, reason="the long storm runs by `make chaos MINUTES=…`"),
]


async def test_a_storm_of_kills_loses_and_doubles_nothing(disturbed: Stack) -> None:
    seed = int(os.environ.get("AEROSTIC_CHAOS_SEED", str(random.randrange(10**6))))
    print(f"AEROSTIC_CHAOS_SEED={seed}")
    chance = random.Random(seed)
    killed: collections.Counter[str] = collections.Counter()
    async with Traffic.on(disturbed) as traffic:
        await traffic.flows()
        ends = time.monotonic() + MINUTES * 60
        while time.monotonic() < ends:
            victim = chance.choice(VICTIMS)
            await disturbed.until_ready(victim)
            await disturbed.kill(victim)
            killed[victim] += 1
            await asyncio.sleep(chance.uniform(*PAUSE_SECONDS))
        for victim in VICTIMS:
            await disturbed.until_ready(victim)
        await traffic.flows()
        found = await traffic.finish(seconds=180)
    print(f"{killed.total()} kills {dict(killed)}; refusals on the way {traffic.ledger.refusals}")
    print(f"{found.written} written, {found.answered} answered, {len(found.unknown)} unknown")
    found.assert_nothing_lost()
