"""SIGKILL of each process in turn during traffic: nothing acknowledged is lost, nothing is doubled."""

import pytest

from devstack.stack import Stack
from devstack.traffic import VICTIMS, Traffic

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]


async def test_nothing_is_lost_or_doubled_whatever_is_killed(disturbed: Stack) -> None:
    async with Traffic.on(disturbed) as traffic:
        await traffic.flows()
        for victim in VICTIMS:
            recovery = await traffic.recovery_after(lambda victim=victim: disturbed.kill(victim))
            print(f"{victim:<18} {recovery}")
            await disturbed.until_ready(victim)
        found = await traffic.finish(seconds=120)
    print(f"{found.written} written, {found.answered} answered, {len(found.unknown)} unknown")
    found.assert_nothing_lost()
