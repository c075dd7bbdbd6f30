"""The operator among others: the platform away, a second replica, a leader that dies, many objects."""

import asyncio
import os
import time

import psutil
import pytest


@pytest.fixture
async def namespace_lease(kube, installed):
    path = f"/apis/coordination.k8s.io/v1/namespaces/{installed}/leases/aerostic-operator"

    async def holder():
        lease = await kube.api.find(path)
        return lease["spec"]["holderIdentity"] if lease else ""

    return holder


async def test_while_the_platform_is_away_objects_say_that_they_wait(operator, platform, tenants, slug) -> None:
    await platform.stop()
    try:
        await tenants.create(slug)
        body = await tenants.until(slug, Ready="Unavailable", Reconciling="Unavailable", Synced="Unavailable")
        assert {c["type"]: c["status"] for c in body["status"]["conditions"]}["Reconciling"] == "True"
    finally:
        await platform.start()
    await tenants.until(slug, Ready="Active", Reconciling="Settled")


async def test_deletion_waits_for_the_platform_unless_it_is_abandoned(operator, platform, tenants, slug) -> None:
    waits, goes = f"{slug}-a", f"{slug}-b"
    for name in (waits, goes):
        await tenants.create(name, deletionPolicy="Suspend")
        await tenants.until(name, Ready="Active")
    await platform.stop()
    try:
        for name in (waits, goes):
            await tenants.delete(name)
        await tenants.annotate(goes, abandon="true")
        await tenants.until_gone(goes)
        assert "deletionTimestamp" in (await tenants.get(waits))["metadata"]
    finally:
        await platform.start()
    await platform.until(waits, lambda tenant: tenant.state == "suspended")


async def test_a_second_replica_waits_and_takes_over_at_once(
    operator, operators, tenants, namespace_lease, slug
) -> None:
    async def is_first():
        return await namespace_lease() == "one"

    async def is_second():
        return await namespace_lease() == "two"

    await tenants.wait(is_first)
    async with operators(identity="two") as second:
        assert await operator.stop() == 0
        await tenants.wait(is_second)
        await tenants.create(slug)
        await tenants.until(slug, Ready="Active")
        assert await second.metric("aerostic_operator_leader") == 1
        await operator.start()
        await second.stop()
    await tenants.create(f"{slug}-2")
    await tenants.until(f"{slug}-2", Ready="Active")


async def test_a_leader_that_dies_is_replaced_when_its_lease_is_over(
    operator, operators, tenants, namespace_lease, slug
) -> None:
    async def is_mortal():
        return await namespace_lease() == "mortal"

    assert await operator.stop() == 0
    async with operators(identity="mortal", AEROSTIC_OPERATOR_LEASE_SECONDS="15") as mortal:
        await tenants.wait(is_mortal)
        async with operators(identity="heir") as heir:
            await mortal.kill()
            await tenants.create(slug)
            await tenants.until(slug, Ready="Active")
            assert await namespace_lease() == "heir"
        assert heir.process.returncode == 0
    await operator.start()


@pytest.fixture
async def calm_operator(operator, operators):
    """One that compares now and then only, as in an installation."""
    await operator.stop()
    async with operators(identity="calm", AEROSTIC_OPERATOR_RESYNC_SECONDS="5") as calm:
        yield calm
    await operator.start()


async def test_many_objects_take_few_connections_and_then_nothing_is_written(
    calm_operator, until, tenants, slug
) -> None:
    operator, count = calm_operator, int(os.environ.get("AEROSTIC_TEST_TENANTS", "200"))
    names = [f"{slug}-{number}" for number in range(count)]
    written = 'aerostic_operator_writes_total{{kind="Tenant",what="{}"}}'.format
    statuses, events = written("status"), written("event")
    told = await operator.metric(events)
    before, began = await operator.metric(statuses), time.monotonic()
    process, sockets, memory = psutil.Process(operator.process.pid), 0, 0
    used = sum(process.cpu_times()[:2])

    async def are_ready():
        nonlocal sockets, memory
        # Asking costs the operator as well.
        await asyncio.sleep(0.5)
        sockets = max(sockets, len(process.net_connections("tcp")))
        memory = max(memory, process.memory_info().rss)
        return await operator.metric(statuses) - before >= count

    # As many at once as the API server has places for: one that waits too long for its turn fails.
    places = asyncio.Semaphore(20)

    async def make(name) -> None:
        async with places:
            await tenants.create(name)

    making = asyncio.gather(*(make(name) for name in names))
    await until(are_ready, lambda: f"{count} tenants", seconds=180)
    await making
    seconds, cpu, load = time.monotonic() - began, process.cpu_times(), os.getloadavg()[0]
    print(
        f"{count} tenants ready in {seconds:.1f} s, {sockets} sockets, {memory / 1e6:.0f} MB,"
        f" {cpu.user + cpu.system - used:.1f} s of CPU, load {load:.1f}"
    )

    async def are_told():
        # Events come behind.
        return await operator.metric(events) - told >= count

    await until(are_told, lambda: f"{count} events", seconds=120)
    print(f"their events are written after {time.monotonic() - began:.1f} s")
    for name in names:
        await tenants.until(name, Ready="Active")
    assert sockets < 50
    assert memory < 150e6
    compared = await operator.metric("aerostic_operator_surveyed_seconds")

    async def are_compared_again():
        return await operator.metric("aerostic_operator_surveyed_seconds") > compared + 5

    await until(are_compared_again, lambda: "two comparisons", seconds=120)
    assert await operator.metric(statuses) - before <= count * 1.2
    settled = await operator.metric("aerostic_operator_writes_total")
    compared = await operator.metric("aerostic_operator_surveyed_seconds")
    await until(are_compared_again, lambda: "two more comparisons", seconds=120)
    assert await operator.metric("aerostic_operator_writes_total") == settled
