"""Which tenants have workers of their own, as the processes of svc-messaging are told."""

import pytest
from aerostic.tenants.v1 import placement_service_pb2 as pb
from aerostic.tenants.v1 import provisioning_service_pb2 as provisioning_pb


async def dedicated(installation, *tenants, caller="messaging-inbox") -> dict[str, set[str]]:
    """Those of the tenants that are told: other tests have their own in the database."""
    request = pb.ListDedicatedTenantsRequest()
    answer = await installation.rpc.service(caller).call(installation.placement.ListDedicatedTenants, request)
    names = {str(each) for each in tenants}
    return {each.tenant_id: set(each.phone_number_ids) for each in answer.tenants if each.tenant_id in names}


async def place(installation, tenant_id, isolation):
    [row] = await installation.look("SELECT slug FROM tenants WHERE id = $1", tenant_id)
    request = provisioning_pb.ApplyTenantRequest(tenant_id=str(tenant_id), slug=row["slug"], isolation=isolation)
    await installation.rpc.service("operator").call(installation.provisioning.ApplyTenant, request)


async def test_a_tenant_is_told_while_it_is_dedicated_with_its_connected_numbers(installation, meta):
    tenant_id, shared = await installation.tenant(), await installation.tenant()
    first, second = meta.number(), meta.number()
    await installation.connect(tenant_id, first)
    account = await installation.connect(tenant_id, second)
    await installation.connect(shared, meta.number())
    assert await dedicated(installation, tenant_id, shared) == {}
    await place(installation, tenant_id, "dedicated")
    assert await dedicated(installation, tenant_id, shared) == {str(tenant_id): {first.number.id, second.number.id}}
    await installation.disconnect(tenant_id, account.id)
    assert await dedicated(installation, tenant_id, caller="messaging-sender") == {str(tenant_id): {first.number.id}}
    await place(installation, tenant_id, "shared")
    assert await dedicated(installation, tenant_id) == {}


async def test_a_dedicated_tenant_without_numbers_is_told_too(installation, tenant_id):
    await place(installation, tenant_id, "dedicated")
    assert await dedicated(installation, tenant_id) == {str(tenant_id): set()}


async def test_a_suspended_tenant_keeps_its_place_and_one_that_is_being_erased_loses_it(installation, tenant_id):
    await place(installation, tenant_id, "dedicated")
    await installation.suspend(tenant_id)
    assert await dedicated(installation, tenant_id) == {str(tenant_id): set()}
    [row] = await installation.look("SELECT slug FROM tenants WHERE id = $1", tenant_id)
    request = provisioning_pb.EraseTenantRequest(tenant_id=str(tenant_id), slug=row["slug"])
    await installation.rpc.service("operator").call(installation.provisioning.EraseTenant, request)
    assert await dedicated(installation, tenant_id) == {}


@pytest.mark.parametrize("isolation", ["dedicated", "shared"])
async def test_whoever_follows_the_events_hears_of_every_change(installation, tenant_id, isolation):
    before = {"dedicated": "shared", "shared": "dedicated"}[isolation]
    await place(installation, tenant_id, before)
    count = len(await installation.events(tenant_id))
    await place(installation, tenant_id, isolation)
    assert (await installation.events(tenant_id))[count:] == ["tenants.tenant.placed"]
