"""Tenants through gRPC."""

import asyncio
import uuid

import pytest
from aerostic.tenants.v1 import tenant_service_pb2 as pb
from grpc import StatusCode


def create(tenant_id=None, display_name="Acme Shoes", slug=""):
    return pb.CreateTenantRequest(tenant_id=str(tenant_id or uuid.uuid4()), display_name=display_name, slug=slug)


@pytest.fixture
def svc_auth(installation):
    return installation.rpc.service("svc-auth")


class TestCreate:
    async def test_a_new_tenant_is_active_and_known_to_all(self, installation, svc_auth):
        request = create(display_name="  Café Zürich ", slug=f"cafe-{uuid.uuid4().hex[:8]}")
        tenant = await svc_auth.call(installation.tenants.CreateTenant, request)
        assert (tenant.id, tenant.slug, tenant.display_name) == (request.tenant_id, request.slug, "Café Zürich")
        assert (tenant.state, tenant.suspension_reason) == ("active", "")
        assert tenant.create_time == tenant.update_time
        tenant_id = uuid.UUID(tenant.id)
        mine = await installation.agent(tenant_id).call(installation.tenants.GetMyTenant, pb.GetMyTenantRequest())
        assert mine == tenant
        assert await installation.events(tenant_id) == ["tenants.tenant.created"]
        assert await installation.audit(tenant_id) == ["tenant.created"]

    async def test_repeating_it_gives_the_first_tenant_and_no_second_event(self, installation, svc_auth):
        request = create()
        first = await svc_auth.call(installation.tenants.CreateTenant, request)
        again = await svc_auth.call(installation.tenants.CreateTenant, create(request.tenant_id, "Another name"))
        assert again == first
        assert await installation.events(uuid.UUID(first.id)) == ["tenants.tenant.created"]

    async def test_repeating_it_at_the_same_moment_gives_one_tenant(self, installation, svc_auth):
        request = create()
        answers = await asyncio.gather(*(svc_auth.call(installation.tenants.CreateTenant, request) for _ in range(8)))
        assert all(answer == answers[0] for answer in answers)
        assert await installation.events(uuid.UUID(request.tenant_id)) == ["tenants.tenant.created"]

    async def test_tenants_of_one_name_get_different_slugs(self, installation, svc_auth):
        name = f"Twins {uuid.uuid4().hex[:8]}"
        made = [svc_auth.call(installation.tenants.CreateTenant, create(display_name=name)) for _ in range(6)]
        slugs = {tenant.slug for tenant in await asyncio.gather(*made)}
        assert len(slugs) == 6
        assert name.lower().replace(" ", "-") in slugs

    @pytest.mark.parametrize(
        ("field", "request_"),
        [
            ("tenantId", pb.CreateTenantRequest(tenant_id="acme", display_name="Acme")),
            ("displayName", create(display_name="")),
            ("displayName", create(display_name="\u00a0\u200b ")),
            ("displayName", create(display_name="a\0b")),
            ("displayName", create(display_name="a" * 81)),
            ("slug", create(slug="Acme")),
            ("slug", create(slug="a")),
            ("slug", create(slug="acme-")),
        ],
    )
    async def test_bad_fields_are_named(self, installation, svc_auth, field, request_):
        error = await installation.refusal(svc_auth.call(installation.tenants.CreateTenant, request_))
        assert (error.code, error.reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
        assert [violation.field for violation in error.violations] == [field] * len(error.violations)


class TestRead:
    async def test_the_super_admin_gets_any_tenant(self, installation):
        tenant_id = await installation.tenant("Blue Bikes")
        request = pb.GetTenantRequest(tenant_id=str(tenant_id))
        found = await installation.super_admin.call(installation.tenants.GetTenant, request)
        assert (found.id, found.display_name) == (str(tenant_id), "Blue Bikes")

    async def test_an_unknown_tenant_is_not_found(self, installation):
        request = pb.GetTenantRequest(tenant_id=str(uuid.uuid4()))
        error = await installation.refusal(installation.super_admin.call(installation.tenants.GetTenant, request))
        assert (error.code, error.reason) == (StatusCode.NOT_FOUND, "TENANT_NOT_FOUND")

    async def test_a_token_of_a_tenant_that_is_not_here_finds_nothing(self, installation):
        admin = installation.admin(uuid.uuid4())
        error = await installation.refusal(admin.call(installation.tenants.GetMyTenant, pb.GetMyTenantRequest()))
        assert error.reason == "TENANT_NOT_FOUND"

    async def test_the_list_is_newest_first_page_after_page(self, postgres, meta, install, key_ring):
        database = postgres.fresh_database("tenants")
        async with install(database, meta, keys=key_ring("k1")) as installation:
            made = [str(await installation.tenant(f"Tenant {number}")) for number in range(5)]
            await installation.suspend(uuid.UUID(made[1]))
            found, token = [], ""
            for _ in range(3):
                request = pb.ListTenantsRequest(page_size=2, page_token=token)
                page = await installation.super_admin.call(installation.tenants.ListTenants, request)
                found += [tenant.id for tenant in page.tenants]
                token = page.next_page_token
            assert (found, token) == (made[::-1], "")
            request = pb.ListTenantsRequest(state="suspended")
            page = await installation.super_admin.call(installation.tenants.ListTenants, request)
            assert [tenant.id for tenant in page.tenants] == [made[1]]
        database.drop()

    @pytest.mark.parametrize(
        ("reason", "request_"),
        [
            ("PAGE_TOKEN_INVALID", pb.ListTenantsRequest(page_token="nonsense")),
            ("INVALID_REQUEST", pb.ListTenantsRequest(page_size=-1)),
            ("INVALID_REQUEST", pb.ListTenantsRequest(state="closed")),
        ],
    )
    async def test_a_bad_list_request_is_refused(self, installation, reason, request_):
        error = await installation.refusal(installation.super_admin.call(installation.tenants.ListTenants, request_))
        assert (error.code, error.reason) == (StatusCode.INVALID_ARGUMENT, reason)

    async def test_states_of_several_tenants_leave_out_unknown_ones(self, installation):
        active, suspended = await installation.tenant("Active"), await installation.tenant("Suspended")
        await installation.suspend(suspended)
        request = pb.BatchGetTenantStatesRequest(tenant_ids=[str(active), str(suspended), str(uuid.uuid4())])
        sender = installation.rpc.service("messaging-sender")
        answer = await sender.call(installation.tenants.BatchGetTenantStates, request)
        assert {tenant.tenant_id: (tenant.state, tenant.display_name) for tenant in answer.tenants} == {
            str(active): ("active", "Active"),
            str(suspended): ("suspended", "Suspended"),
        }


class TestSuspension:
    async def test_suspending_and_resuming_change_the_state_and_tell_it(self, installation):
        tenant_id = await installation.tenant()
        await installation.suspend(tenant_id, "  The invoice is open. ")
        request = pb.GetTenantRequest(tenant_id=str(tenant_id))
        suspended = await installation.super_admin.call(installation.tenants.GetTenant, request)
        assert (suspended.state, suspended.suspension_reason) == ("suspended", "The invoice is open.")
        resumed = await installation.super_admin.call(
            installation.tenants.ResumeTenant, pb.ResumeTenantRequest(tenant_id=str(tenant_id))
        )
        assert (resumed.state, resumed.suspension_reason) == ("active", "")
        assert resumed.update_time.ToNanoseconds() > suspended.update_time.ToNanoseconds()
        verbs = ["created", "suspended", "resumed"]
        assert await installation.events(tenant_id) == [f"tenants.tenant.{verb}" for verb in verbs]
        assert await installation.audit(tenant_id) == [f"tenant.{verb}" for verb in verbs]

    async def test_a_suspended_tenant_is_not_suspended_again(self, installation):
        tenant_id = await installation.tenant()
        await installation.suspend(tenant_id, "First.")
        error = await installation.refusal(installation.suspend(tenant_id, "Second."))
        assert (error.code, error.reason) == (StatusCode.FAILED_PRECONDITION, "TENANT_ALREADY_SUSPENDED")
        rows = await installation.look("SELECT suspension_reason FROM tenants WHERE id = $1", tenant_id)
        assert rows[0]["suspension_reason"] == "First."

    async def test_an_active_tenant_is_not_resumed(self, installation):
        request = pb.ResumeTenantRequest(tenant_id=str(await installation.tenant()))
        error = await installation.refusal(installation.super_admin.call(installation.tenants.ResumeTenant, request))
        assert (error.code, error.reason) == (StatusCode.FAILED_PRECONDITION, "TENANT_NOT_SUSPENDED")

    async def test_an_unknown_tenant_is_neither_suspended_nor_resumed(self, installation):
        assert (await installation.refusal(installation.suspend(uuid.uuid4()))).reason == "TENANT_NOT_FOUND"
        request = pb.ResumeTenantRequest(tenant_id=str(uuid.uuid4()))
        error = await installation.refusal(installation.super_admin.call(installation.tenants.ResumeTenant, request))
        assert error.reason == "TENANT_NOT_FOUND"

    @pytest.mark.parametrize("reason", ["", " \n", "a\0b", "a" * 501])
    async def test_a_suspension_needs_a_reason_that_people_can_read(self, installation, reason):
        tenant_id = await installation.tenant()
        error = await installation.refusal(installation.suspend(tenant_id, reason))
        assert error.reason == "INVALID_REQUEST"
        assert {violation.field for violation in error.violations} == {"reason"}
        assert await installation.events(tenant_id) == ["tenants.tenant.created"]
