"""Tenants and numbers as the operator describes them."""

import asyncio
import uuid

import pytest
from aerostic.tenants.v1 import provisioning_service_pb2 as pb
from grpc import StatusCode


@pytest.fixture
def operator(installation):
    caller = installation.rpc.service("operator")

    async def call(name, **fields):
        request = getattr(pb, f"{name}Request")(**fields)
        return await caller.call(getattr(installation.provisioning, name), request)

    return call


def fresh_slug() -> str:
    return f"acme-{uuid.uuid4().hex[:12]}"


async def test_a_described_tenant_exists_with_exactly_its_slug(operator) -> None:
    tenant_id, slug = str(uuid.uuid4()), fresh_slug()
    tenant = await operator("ApplyTenant", tenant_id=tenant_id, slug=slug, display_name="Acme")
    assert (tenant.id, tenant.slug, tenant.display_name, tenant.state) == (tenant_id, slug, "Acme", "active")


async def test_applying_the_same_again_changes_nothing(operator, installation) -> None:
    tenant_id, slug = str(uuid.uuid4()), fresh_slug()
    wanted = {"tenant_id": tenant_id, "slug": slug, "display_name": "Acme", "suspended": False}
    first = await operator("ApplyTenant", **wanted)
    assert await operator("ApplyTenant", **wanted) == first
    assert await installation.events(uuid.UUID(tenant_id)) == ["tenants.tenant.created"]


async def test_what_is_not_described_stays_as_it_is(operator, installation) -> None:
    tenant_id, slug = str(uuid.uuid4()), fresh_slug()
    await operator("ApplyTenant", tenant_id=tenant_id, slug=slug, display_name="Acme")
    await installation.suspend(uuid.UUID(tenant_id))
    tenant = await operator("ApplyTenant", tenant_id=tenant_id, slug=slug)
    assert (tenant.display_name, tenant.state) == ("Acme", "suspended")


async def test_a_tenant_is_renamed_suspended_and_resumed_with_events_and_audit(operator, installation) -> None:
    tenant_id, slug = str(uuid.uuid4()), fresh_slug()
    wanted = {"tenant_id": tenant_id, "slug": slug}
    await operator("ApplyTenant", **wanted, display_name="Acme")
    tenant = await operator(
        "ApplyTenant", **wanted, display_name="Acme Shoes", suspended=True, suspension_reason="The invoice is open."
    )
    assert (tenant.display_name, tenant.suspension_reason) == ("Acme Shoes", "The invoice is open.")
    assert (await operator("ApplyTenant", **wanted, suspended=False)).state == "active"
    done = ["created", "renamed", "suspended", "resumed"]
    assert await installation.events(uuid.UUID(tenant_id)) == [f"tenants.tenant.{verb}" for verb in done]
    assert await installation.audit(uuid.UUID(tenant_id)) == [f"tenant.{verb}" for verb in done]


async def test_a_tenant_is_placed_and_back_with_events_and_audit(operator, installation) -> None:
    tenant_id, slug = str(uuid.uuid4()), fresh_slug()
    wanted = {"tenant_id": tenant_id, "slug": slug}
    assert (await operator("ApplyTenant", **wanted)).isolation == "shared"
    assert (await operator("ApplyTenant", **wanted, isolation="dedicated")).isolation == "dedicated"
    assert (await operator("ApplyTenant", **wanted)).isolation == "dedicated"
    record = (await operator("BatchGetTenantRecords", slugs=[slug])).records[0]
    assert record.tenant.isolation == "dedicated"
    assert (await operator("ApplyTenant", **wanted, isolation="shared")).isolation == "shared"
    done = ["created", "placed", "placed"]
    assert await installation.events(uuid.UUID(tenant_id)) == [f"tenants.tenant.{verb}" for verb in done]
    assert await installation.audit(uuid.UUID(tenant_id)) == [f"tenant.{verb}" for verb in done]


async def test_a_tenant_may_be_created_dedicated(operator) -> None:
    tenant = await operator("ApplyTenant", tenant_id=str(uuid.uuid4()), slug=fresh_slug(), isolation="dedicated")
    assert tenant.isolation == "dedicated"


async def test_an_unknown_isolation_is_refused(operator, installation) -> None:
    call = operator("ApplyTenant", tenant_id=str(uuid.uuid4()), slug=fresh_slug(), isolation="own")
    assert (await installation.refusal(call)).code is StatusCode.INVALID_ARGUMENT


async def test_suspending_needs_a_reason(operator, installation) -> None:
    call = operator("ApplyTenant", tenant_id=str(uuid.uuid4()), slug=fresh_slug(), suspended=True)
    assert (await installation.refusal(call)).code is StatusCode.INVALID_ARGUMENT


async def test_anothers_slug_is_refused_and_makes_no_tenant(operator, installation) -> None:
    slug, second = fresh_slug(), str(uuid.uuid4())
    await operator("ApplyTenant", tenant_id=str(uuid.uuid4()), slug=slug)
    error = await installation.refusal(operator("ApplyTenant", tenant_id=second, slug=slug))
    assert (error.code, error.reason) == (StatusCode.ALREADY_EXISTS, "SLUG_TAKEN")
    assert await installation.look("SELECT 1 FROM tenants WHERE id = $1", uuid.UUID(second)) == []


async def test_a_slug_never_changes(operator, installation) -> None:
    tenant_id = str(uuid.uuid4())
    await operator("ApplyTenant", tenant_id=tenant_id, slug=fresh_slug())
    error = await installation.refusal(operator("ApplyTenant", tenant_id=tenant_id, slug=fresh_slug()))
    assert error.reason == "SLUG_TAKEN"


async def test_of_two_calls_at_once_one_creates_and_both_succeed(operator, installation) -> None:
    tenant_id, slug = str(uuid.uuid4()), fresh_slug()
    calls = [operator("ApplyTenant", tenant_id=tenant_id, slug=slug, display_name="Acme") for _ in range(4)]
    assert {tenant.id for tenant in await asyncio.gather(*calls)} == {tenant_id}
    assert await installation.events(uuid.UUID(tenant_id)) == ["tenants.tenant.created"]


async def test_records_name_every_tenant_once_with_what_it_uses(operator, installation, meta) -> None:
    tenants = [await installation.tenant(f"Tenant {number}") for number in range(3)]
    await installation.connect(tenants[0], meta.number())
    found, token = [], ""
    while True:
        page = await operator("ListTenantRecords", page_size=2, page_token=token)
        found += [(record.tenant.id, record.connected_numbers) for record in page.records]
        token = page.next_page_token
        if not token:
            break
    assert len(found) == len(dict(found))
    assert [dict(found)[str(tenant_id)] for tenant_id in tenants] == [1, 0, 0]


async def test_records_by_slug_leave_unknown_ones_out(operator) -> None:
    slug = fresh_slug()
    await operator("ApplyTenant", tenant_id=str(uuid.uuid4()), slug=slug)
    answer = await operator("BatchGetTenantRecords", slugs=[slug, "nobody-has-this"])
    assert [record.tenant.slug for record in answer.records] == [slug]


async def test_a_number_is_connected_told_and_disconnected(operator, installation, meta) -> None:
    tenant_id, number = await installation.tenant(), meta.number()
    where = {"tenant_id": str(tenant_id), "phone_number_id": number.number.id}
    wanted = {**where, "waba_id": number.number.waba_id}
    first = await operator("ConnectNumber", **wanted, access_token=number.token.value)
    assert (first.account.state, first.token_version) == ("ready", 1)
    assert await operator("GetNumberRecord", **where) == first
    renewed = await operator("ConnectNumber", **wanted, access_token=number.new_token())
    assert (renewed.account.id, renewed.token_version) == (first.account.id, 2)
    assert (await operator("DisconnectNumber", **where)).subscription == "ended"
    assert (await operator("DisconnectNumber", **where)).subscription == ""
    error = await installation.refusal(operator("GetNumberRecord", **where))
    assert error.reason == "WHATSAPP_ACCOUNT_NOT_FOUND"


async def test_a_suspended_tenants_number_can_be_disconnected(operator, installation, meta) -> None:
    tenant_id, number = await installation.tenant(), meta.number()
    await installation.connect(tenant_id, number)
    await installation.suspend(tenant_id)
    done = await operator("DisconnectNumber", tenant_id=str(tenant_id), phone_number_id=number.number.id)
    assert done.subscription == "ended"
    assert await installation.listed(tenant_id) == []


async def test_numbers_of_all_workspaces_are_read_by_pages(operator, installation, meta) -> None:
    connected = set()
    for tenant_id in [await installation.tenant() for _ in range(2)]:
        for _ in range(2):
            number = meta.number()
            account = await installation.connect(tenant_id, number)
            connected.add((str(tenant_id), account.id))
    [gone, *_] = connected
    await installation.disconnect(uuid.UUID(gone[0]), gone[1])
    found, token = [], ""
    while True:
        page = await operator("ListNumberRecords", page_size=1, page_token=token)
        found += [(record.tenant_id, record.account.id) for record in page.records]
        assert len(page.records) <= 1
        if not (token := page.next_page_token):
            break
    assert connected - {gone} <= set(found)
    assert gone not in found
    assert len(found) == len(set(found))
