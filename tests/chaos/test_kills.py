"""SIGKILL of each process in turn during traffic: nothing acknowledged is lost, nothing is doubled."""

import os

import pytest

from devstack.stack import Stack
from devstack.traffic import VICTIMS, Load, Traffic

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

# Light, so that the smallest machine keeps up with it.
LOAD = Load(webhooks=20, answers=8, customers=20)


async def test_nothing_is_lost_or_doubled_whatever_is_killed(disturbed: Stack) -> None:
    async with Traffic.on(disturbed, LOAD) as traffic:
        await traffic.flows()
        for victim in VICTIMS:
            await disturbed.kill(victim)
            await traffic.flows(answers=5, seconds=120)
            await disturbed.until_ready(victim)
        found = await traffic.finish(seconds=180)
    print(f"{found.written} written, {found.answered} answered, {len(found.unknown)} unknown")
    found.assert_nothing_lost()


@pytest.mark.skipif("AEROSTIC_CHAOS_MINUTES" not in os.environ, reason="times are measured by `make chaos` alone")
async def test_how_long_each_recovery_takes(disturbed: Stack) -> None:
    async with Traffic.on(disturbed) as traffic:
        await traffic.flows()
        for victim in VICTIMS:
            print(f"{victim:<18} {await traffic.recovery_after(lambda victim=victim: disturbed.kill(victim))}")
            await disturbed.until_ready(victim)
        found = await traffic.finish(seconds=180)
    found.assert_nothing_lost()
