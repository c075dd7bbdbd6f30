"""The operator among others: the platform away, a second replica, a leader that dies, many objects."""

import asyncio

import psutil
import pytest


@pytest.fixture
async def namespace_lease(kube, installed):
    path = f"/apis/coordination.k8s.io/v1/namespaces/{installed}/leases/aerostic-operator"

    async def holder():
        return (await kube.api.get(path))["spec"]["holderIdentity"]

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
    assert await namespace_lease() == "one"
    async with operators(identity="two") as second:
        assert await operator.stop() == 0

        async def is_second():
            return await namespace_lease() == "two"

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
    async with operators(identity="heir") as heir:
        await operator.kill()
        await tenants.create(slug)
        await tenants.until(slug, Ready="Active")
        assert await namespace_lease() == "heir"
        await operator.start()
    assert heir.process.returncode == 0


async def test_many_objects_take_few_connections_and_then_nothing_is_written(operator, kube, tenants, slug) -> None:
    count = 200
    names = [f"{slug}-{number}" for number in range(count)]
    before = await operator.metric('aerostic_operator_writes_total{kind="Tenant",what="status"}')
    await asyncio.gather(*(tenants.create(name) for name in names))
    process, most = psutil.Process(operator.process.pid), 0

    async def are_ready():
        nonlocal most
        most = max(most, len(process.net_connections("tcp")))
        bodies = {body["metadata"]["name"]: body for body in await kube.api.items(tenants.PATH)}
        return all("conditions" in bodies[name].get("status", {}) for name in names)

    await tenants.wait(are_ready)
    assert most < 50
    written = await operator.metric('aerostic_operator_writes_total{kind="Tenant",what="status"}')
    assert written - before <= count * 1.5
    compared = await operator.metric("aerostic_operator_surveyed_seconds")

    async def are_compared_again():
        return await operator.metric("aerostic_operator_surveyed_seconds") > compared + 2

    await tenants.wait(are_compared_again)
    settled = await operator.metric("aerostic_operator_writes_total")
    await tenants.wait(are_compared_again)
    assert await operator.metric("aerostic_operator_writes_total") == settled
