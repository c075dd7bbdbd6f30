"""The time of day is set forward and back while the product works, and differs from PostgreSQL's and Meta's."""

import asyncio
import os

import pytest

from devstack.clocks import Clock, may_set_clocks
from devstack.stack import Stack
from devstack.traffic import Load, Traffic

LOAD = Load(webhooks=20, answers=8, customers=20)
STEPS = (3600, 0, -3600, 7200, 0)
"""Seconds beside the true time. An access token lives for less than an hour."""
NOTICED_SECONDS = 2.0

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(600),
    pytest.mark.skipif("AEROSTIC_CHAOS_MINUTES" not in os.environ, reason="runs by `make chaos`"),
    pytest.mark.skipif(bool(why := may_set_clocks()), reason=f"NOT PROVEN HERE: {why}"),
]


async def test_a_clock_that_is_set_costs_nothing(tmp_path) -> None:
    clock = Clock(tmp_path)
    async with (
        Stack(tmp_path / "product", free_ports=True, preload=clock.environment) as stack,
        Traffic.on(stack, LOAD) as traffic,
    ):
        await traffic.flows()
        for offset in STEPS:
            clock.set(offset)
            await asyncio.sleep(NOTICED_SECONDS)
            await traffic.flows(seconds=120)
            print(f"at {offset:+d} s: {traffic.ledger.refusals}")
        found = await traffic.finish(seconds=180)
        print(f"{found.written} written, {found.answered} answered, {len(found.unknown)} unknown")
        assert any(name.startswith("api 401") for name in traffic.ledger.refusals), "no process noticed"
        found.assert_nothing_lost()
