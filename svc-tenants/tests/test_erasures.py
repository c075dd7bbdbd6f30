"""Asking for a tenant to be erased: from that call on it does nothing any more, whoever tries."""

import uuid

import asyncpg
import pytest
from aerostic.tenants.v1 import provisioning_service_pb2 as provisioning_pb
from aerostic.tenants.v1 import tenant_service_pb2 as pb
from grpc import StatusCode

DELETING = (StatusCode.FAILED_PRECONDITION, "TENANT_DELETING")


async def slug_of(installation, tenant_id):
    rows = await installation.look("SELECT slug FROM tenants WHERE id = $1", tenant_id)
    return rows[0]["slug"] if rows else "nobodys-slug"


async def delete(installation, tenant_id, slug=""):
    slug = slug or await slug_of(installation, tenant_id)
    request = pb.DeleteTenantRequest(tenant_id=str(tenant_id), confirm_slug=slug)
    return await installation.super_admin.call(installation.tenants.DeleteTenant, request)


async def erase(installation, tenant_id, slug=""):
    slug = slug or await slug_of(installation, tenant_id)
    request = provisioning_pb.EraseTenantRequest(tenant_id=str(tenant_id), slug=slug)
    return await installation.rpc.service("operator").call(installation.provisioning.EraseTenant, request)


async def state(installation, tenant_id):
    return (await installation.look("SELECT state FROM tenants WHERE id = $1", tenant_id))[0]["state"]


async def refused(installation, call):
    error = await installation.refusal(call)
    return error.code, error.reason


@pytest.mark.parametrize("ask", [delete, erase])
async def test_a_slip_erases_nothing(installation, tenant_id, ask):
    assert await refused(installation, ask(installation, tenant_id, "acme-shoe-s")) == (
        StatusCode.FAILED_PRECONDITION,
        "SLUG_NOT_CONFIRMED",
    )
    assert await state(installation, tenant_id) == "active"


@pytest.mark.parametrize("ask", [delete, erase])
async def test_a_tenant_is_deleting_from_the_call_on_and_a_repetition_changes_nothing(installation, tenant_id, ask):
    first = await ask(installation, tenant_id)
    assert (first.tenant_id, first.slug, first.state) == (
        str(tenant_id),
        await slug_of(installation, tenant_id),
        "erasing",
    )
    assert list(first.remaining_steps) == ["numbers", "auth", "messaging", "events", "check", "tenant"]
    assert first.requester == "operator" if ask is erase else uuid.UUID(first.requester)
    assert await state(installation, tenant_id) == "deleting"
    assert await ask(installation, tenant_id) == first
    assert await installation.audit(tenant_id) == ["tenant.created", "tenant.deleting"]
    assert await installation.events(tenant_id) == ["tenants.tenant.created", "tenants.tenant.deleting"]


async def test_a_suspended_tenant_is_erased_too(installation, tenant_id):
    await installation.suspend(tenant_id)
    await delete(installation, tenant_id)
    assert await state(installation, tenant_id) == "deleting"


async def test_nothing_can_be_changed_or_begun_in_it(installation, meta, tenant_id):
    await delete(installation, tenant_id)
    tenants, provisioning = installation.tenants, installation.provisioning
    slug = await slug_of(installation, tenant_id)
    apply = provisioning_pb.ApplyTenantRequest(tenant_id=str(tenant_id), slug=slug, suspended=False)
    create = pb.CreateTenantRequest(tenant_id=str(tenant_id), display_name="Acme Shoes")
    for call in (
        installation.suspend(tenant_id),
        installation.super_admin.call(tenants.ResumeTenant, pb.ResumeTenantRequest(tenant_id=str(tenant_id))),
        installation.rpc.service("operator").call(provisioning.ApplyTenant, apply),
        installation.rpc.service("svc-auth").call(tenants.CreateTenant, create),
        installation.connect(tenant_id, meta.number()),
    ):
        assert await refused(installation, call) == DELETING
    assert await state(installation, tenant_id) == "deleting"


async def test_others_are_told_that_it_is_deleting(installation, meta, tenant_id):
    number = meta.number()
    await installation.connect(tenant_id, number)
    await delete(installation, tenant_id)
    assert (await installation.numbers(tenant_id)).tenant_state == "deleting"
    assert (await installation.credentials(number.number.id)).tenant_state == "deleting"
    request = pb.ListTenantsRequest(state="deleting")
    listed = await installation.super_admin.call(installation.tenants.ListTenants, request)
    assert str(tenant_id) in {tenant.id for tenant in listed.tenants}
    records = await installation.rpc.service("operator").call(
        installation.provisioning.BatchGetTenantRecords,
        provisioning_pb.BatchGetTenantRecordsRequest(slugs=[await slug_of(installation, tenant_id)]),
    )
    assert [record.tenant.state for record in records.records] == ["deleting"]


async def test_a_tenant_that_never_was_is_erased_for_the_operator_and_not_found_for_people(installation):
    unknown = uuid.uuid4()
    assert await refused(installation, delete(installation, unknown)) == (StatusCode.NOT_FOUND, "TENANT_NOT_FOUND")
    assert (await erase(installation, unknown)).state == "done"
    get = pb.GetTenantErasureRequest(tenant_id=str(unknown))
    call = installation.super_admin.call(installation.tenants.GetTenantErasure, get)
    assert await refused(installation, call) == (StatusCode.NOT_FOUND, "TENANT_ERASURE_NOT_FOUND")


async def test_erasures_are_listed_newest_first(installation):
    ids = [await installation.tenant() for _ in range(3)]
    for each in ids:
        await delete(installation, each)
    listed, request = [], pb.ListTenantErasuresRequest(page_size=2, state="erasing")
    while not listed or request.page_token:
        page = await installation.super_admin.call(installation.tenants.ListTenantErasures, request)
        listed += [erasure.tenant_id for erasure in page.tenant_erasures]
        request.page_token = page.next_page_token
    assert listed[:3] == [str(each) for each in reversed(ids)]
    done = pb.ListTenantErasuresRequest(state="done", page_size=200)
    answer = await installation.super_admin.call(installation.tenants.ListTenantErasures, done)
    assert not {str(each) for each in ids} & {each.tenant_id for each in answer.tenant_erasures}


@pytest.mark.parametrize("table", ["tenants", "whatsapp_accounts", "data_keys", "audit_log"])
async def test_rows_can_be_deleted_of_a_tenant_that_is_being_erased_and_of_no_other(
    installation, meta, tenant_id, table
):
    await installation.connect(tenant_id, meta.number())
    async with installation.inside(tenant_id) as tx:
        await tx.execute("DELETE FROM whatsapp_tokens")
        await tx.execute("DELETE FROM connected_numbers")
        assert await tx.execute(f"DELETE FROM {table}") == "DELETE 0"
    await delete(installation, tenant_id)
    deleted = ""
    try:
        async with installation.inside(tenant_id) as tx:
            deleted = await tx.execute(f"DELETE FROM {table}")
    except asyncpg.ForeignKeyViolationError:
        assert table == "tenants", "what refers to the tenant goes first"
    else:
        assert deleted != "DELETE 0"
