"""Connections are reset again and again, or go silent without a word, as networks do: nothing is lost or doubled."""

import asyncio
import os

import pytest

from devstack.stack import Stack
from devstack.traffic import Load, Traffic
from devstack.wires import Wire

LOAD = Load(webhooks=20, answers=8, customers=20)
LONG = pytest.mark.skipif("AEROSTIC_CHAOS_MINUTES" not in os.environ, reason="runs by `make chaos`")
SECONDS = float(os.environ.get("AEROSTIC_CHAOS_OUTAGE_SECONDS", "3"))
CUT_EVERY_SECONDS = 0.3

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]


async def finish(traffic: Traffic) -> None:
    await traffic.flows(seconds=120)
    found = await traffic.finish(seconds=180)
    print(
        f"{found.written} written, {found.answered} answered, {len(found.unknown)} unknown, {traffic.ledger.refusals}"
    )
    found.assert_nothing_lost()


def wires(*chosen: str) -> pytest.MarkDecorator:
    """By the setting of the port that they lead to; the others run by `make chaos`."""
    every = ("NATS", "POSTGRES", "AUTH", "TENANTS", "MESSAGING", "EMULATOR")
    return pytest.mark.parametrize("end", [pytest.param(end, marks=() if end in chosen else LONG) for end in every])


@wires("NATS")
async def test_connections_that_are_reset_again_and_again_cost_nothing(tmp_path, end) -> None:
    stack = Stack(tmp_path, free_ports=True)
    async with Wire.into(stack, f"AEROSTIC_{end}_PORT") as wire, stack, Traffic.on(stack, LOAD) as traffic:
        await traffic.flows()
        cut = 0
        for _ in range(round(SECONDS / CUT_EVERY_SECONDS)):
            cut += wire.cut()
            await asyncio.sleep(CUT_EVERY_SECONDS)
        assert cut, "nobody connects this way"
        await finish(traffic)


@wires("POSTGRES")
async def test_connections_that_go_silent_for_a_while_cost_nothing(tmp_path, end) -> None:
    stack = Stack(tmp_path, free_ports=True)
    async with Wire.into(stack, f"AEROSTIC_{end}_PORT") as wire, stack, Traffic.on(stack, LOAD) as traffic:
        await traffic.flows()
        wire.silence()
        await asyncio.sleep(SECONDS)
        wire.restore()
        await finish(traffic)
