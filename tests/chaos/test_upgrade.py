"""From the release before to this one and back under load: nothing is lost, doubled or refused.

In the order in which the chart does it: the migrations while old processes serve, then each process replaced by one
that was ready before. Back without the schema, as `helm rollback` does.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable

import pytest

from devstack.processes import PROCESSES
from devstack.releases import Release, ReleaseMissing, previous_commit
from devstack.rollout import Rollout
from devstack.stack import Stack
from devstack.traffic import Load, Traffic

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

# As long as no release has a tag: a commit whose schema is older (auth 0001, tenants 0001, messaging 0003).
PINNED = "6388cfa58c64bbd985aa9fac30d3bd58c6c3ee40"
LOAD = Load(webhooks=20, answers=8, customers=20)
# The gateway closed a kept connection as it stopped, while the next request was on its way: HTTP has no word for that.
CLOSED = {
    f"{way} {error}"
    for way in ("webhook", "api")
    for error in ("ServerDisconnectedError", "ClientOSError", "ClientConnectionResetError")
}
# What the release before says where this one asks again, when another process stops.
OF_THE_PREVIOUS = {"webhook 503", "api 499 CANCELLED", "api 503 UNAVAILABLE"}
LONG = pytest.mark.skipif("AEROSTIC_CHAOS_MINUTES" not in os.environ, reason="runs by `make chaos`")
OURS = [process.name for process in PROCESSES if process.shared]
Replace = Callable[[Rollout], Awaitable[None]]


@pytest.fixture
def previous(tmp_path) -> Release:
    try:
        return Release.of(previous_commit(PINNED), tmp_path / "previous")
    except ReleaseMissing as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"THE UPGRADE IS NOT TESTED: {missing}")


async def at_once(rollout: Rollout) -> None:
    """As Deployments do, each for itself."""
    await asyncio.gather(*(rollout.replace(name) for name in OURS))


async def in_turn(rollout: Rollout) -> None:
    """As deploy/compose/update.sh does."""
    for name in OURS:
        await rollout.replace(name)


async def there_and_back(stack: Stack, rollout: Rollout, replace: Replace) -> Traffic:
    """From the stack's release to this one and back under load; nothing is lost. Gives the traffic."""
    first = stack.release
    async with Traffic.on(stack, LOAD, api=rollout.url("gateway")) as traffic:
        stack.release = None
        await stack.migrate()
        await traffic.flows(answers=8)
        await replace(rollout)
        await traffic.flows(answers=8)
        stack.release = first
        await replace(rollout)
        await traffic.flows(answers=8)
        found = await traffic.finish(seconds=120)
    print(f"{found.written} written, {found.answered} answered, {traffic.ledger.refusals}, drained {rollout.drained}")
    found.assert_nothing_lost()
    assert not found.unknown
    return traffic


@pytest.mark.parametrize("replace", [at_once, pytest.param(in_turn, marks=LONG)])
async def test_an_upgrade_and_the_way_back_lose_nothing(tmp_path, previous, replace) -> None:
    stack = Stack(tmp_path / "product", free_ports=True, release=previous)
    async with Rollout.over(stack) as rollout, stack:
        traffic = await there_and_back(stack, rollout, replace)
    assert set(traffic.ledger.refusals) <= CLOSED | OF_THE_PREVIOUS


@LONG
@pytest.mark.parametrize("replace", [at_once, in_turn])
async def test_replacing_every_process_refuses_nothing(tmp_path, replace) -> None:
    stack = Stack(tmp_path / "product", free_ports=True)
    async with Rollout.over(stack) as rollout, stack:
        traffic = await there_and_back(stack, rollout, replace)
    assert set(traffic.ledger.refusals) <= CLOSED
