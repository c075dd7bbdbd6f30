"""Two tenants side by side: by the database's own rules, and through every RPC as everybody who may not call it."""

import json
from datetime import UTC, datetime

import asyncpg
import pytest
from aerostic.tenants.v1 import placement_service_pb2 as placement_pb
from aerostic.tenants.v1 import provisioning_service_pb2 as provisioning_pb
from aerostic.tenants.v1 import tenant_service_pb2 as tenants_pb
from aerostic.tenants.v1 import usage_service_pb2 as usage_pb
from aerostic.tenants.v1 import whatsapp_account_service_pb2 as accounts_pb
from grpc import StatusCode

from kit.access import all_methods
from kit.principal import Principal

# Tables with rows of tenants, and what the application's role may do with its own.
TABLES = {
    "tenants": "SELECT INSERT UPDATE DELETE",
    "whatsapp_accounts": "SELECT INSERT UPDATE DELETE",
    "connected_numbers": "SELECT INSERT DELETE",
    "data_keys": "SELECT INSERT UPDATE DELETE",
    "whatsapp_tokens": "SELECT INSERT UPDATE DELETE",
    "audit_log": "SELECT INSERT DELETE",
    "tenant_usage": "SELECT DELETE",
}
# Of the installation: outside any tenant all of it is seen.
RECORDS = {"tenant_erasures"}
READ_BY_FUNCTIONS = {"tenants", "whatsapp_accounts", "connected_numbers", "tenant_usage"}
OF_NOBODY = {"outbox", "usage_position", "alembic_version", "schema_history"}


def key_of(table):
    return "id" if table == "tenants" else "tenant_id"


async def use(installation, tenant_id):
    async with installation.db.begin(Principal.service("tests")) as tx:
        position = await tx.fetchval("SELECT sequence FROM usage_position")
        columns = ([tenant_id], [datetime.now(UTC).date()], [1], [0], [0], [0])
        await tx.fetchval(
            "SELECT count_usage($1::bigint, $1::bigint + 1, now(), $2, $3, $4, $5, $6, $7)", position, *columns
        )


@pytest.fixture
async def theirs(installation, meta):
    """A tenant with a row in every table."""
    tenant_id = await installation.tenant("Theirs")
    await installation.connect(tenant_id, meta.number())
    await use(installation, tenant_id)
    return tenant_id


@pytest.fixture
async def mine(installation, meta):
    tenant_id = await installation.tenant("Mine")
    await installation.connect(tenant_id, meta.number())
    await use(installation, tenant_id)
    return tenant_id


class TestRowLevelSecurity:
    async def test_every_table_is_either_protected_or_known_to_be_nobodys(self, installation):
        rows = await installation.look(
            "SELECT relname, relrowsecurity AND relforcerowsecurity AS protected FROM pg_class"
            " WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
        )
        assert {row["relname"] for row in rows if row["protected"]} == set(TABLES) | RECORDS
        assert {row["relname"] for row in rows if not row["protected"]} == OF_NOBODY

    @pytest.mark.parametrize("table", TABLES)
    async def test_another_tenants_rows_cannot_be_seen(self, installation, theirs, mine, table):
        key = key_of(table)
        assert await installation.look(f"SELECT 1 FROM {table} WHERE {key} = $1", theirs)
        async with installation.inside(mine) as tx:
            assert await tx.fetch(f"SELECT 1 FROM {table} WHERE {key} = $1", theirs) == []
            assert {row[key] for row in await tx.fetch(f"SELECT * FROM {table}")} == {mine}

    @pytest.mark.parametrize("table", TABLES)
    async def test_another_tenants_rows_cannot_be_written(self, installation, theirs, mine, table):
        key = key_of(table)
        [row] = await installation.look(f"SELECT * FROM {table} WHERE {key} = $1 ORDER BY 1, 2 LIMIT 1", theirs)
        if table == "tenants":
            insert = "INSERT INTO tenants (id, slug, display_name) VALUES ($1, 'stolen', 'Stolen')"
            values = [theirs]
        else:
            columns = ", ".join(row.keys())
            insert = f"INSERT INTO {table} ({columns}) SELECT {', '.join(f'${n + 1}' for n in range(len(row)))}"
            values = list(row.values())
        words = "row-level security" if "INSERT" in TABLES[table] else "permission denied"
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match=words):
            async with installation.inside(mine) as tx:
                await tx.execute(insert, *values)

    @pytest.mark.parametrize("table", TABLES)
    async def test_another_tenants_rows_cannot_be_changed_or_deleted(self, installation, theirs, mine, table):
        column = {"tenants": "state", "data_keys": "wrapped"}.get(table, key_of(table))
        for verb, statement in (
            ("UPDATE", f"UPDATE {table} SET {column} = {column} WHERE {key_of(table)} = $1"),
            ("DELETE", f"DELETE FROM {table} WHERE {key_of(table)} = $1"),
        ):
            if verb in TABLES[table].split():
                async with installation.inside(mine) as tx:
                    assert await tx.execute(statement, theirs) == f"{verb} 0"
                async with installation.inside(theirs) as tx:
                    assert await tx.fetchval(f"SELECT count(*) FROM {table}") > 0
            else:
                with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
                    async with installation.inside(mine) as tx:
                        await tx.execute(statement, theirs)

    @pytest.mark.parametrize("table", TABLES)
    async def test_without_a_tenant_nothing_can_be_read(self, installation, theirs, table):
        connection = await asyncpg.connect(installation.database.app_url)
        try:
            with pytest.raises(asyncpg.PostgresError):
                await connection.fetch(f"SELECT * FROM {table}")
        finally:
            await connection.close()

    @pytest.mark.parametrize("table", TABLES)
    async def test_the_owner_reads_what_functions_need_and_writes_nothing(self, installation, theirs, table):
        key = key_of(table)
        connection = await asyncpg.connect(installation.database.owner_url)
        try:
            found = await connection.fetch(f"SELECT 1 FROM {table} WHERE {key} = $1", theirs)
            assert bool(found) == (table in READ_BY_FUNCTIONS)
            assert await connection.execute(f"DELETE FROM {table} WHERE {key} = $1", theirs) == "DELETE 0"
        finally:
            await connection.close()

    async def test_only_the_application_may_ask_across_tenants(self, installation):
        rows = await installation.look(
            "SELECT proname, proacl::text FROM pg_proc WHERE prosecdef AND pronamespace = 'public'::regnamespace"
        )
        assert {row["proname"] for row in rows} == {
            "list_tenants",
            "tenant_states",
            "number_owners",
            "waba_is_in_use",
            "tenant_records",
            "count_usage",
            "usage_between",
            "due_checks",
            "numbers_by_check",
            "number_records",
            "dedicated_tenants",
        }
        for row in rows:
            assert row["proacl"] == "{tenants_owner=X/tenants_owner,tenants_app=X/tenants_owner}", row["proname"]


# Who may call what, written down a second time: a change of the contract must be meant.
ADMIN, AGENT, SUPER = "admin", "agent", "super_admin"
PROCESSES = {"svc-auth", "messaging-server", "messaging-inbox", "messaging-sender", "operator"}
CALLERS = {
    "GetMyTenant": {ADMIN, AGENT},
    "ListTenants": {SUPER},
    "GetTenant": {SUPER},
    "SuspendTenant": {SUPER},
    "ResumeTenant": {SUPER},
    "DeleteTenant": {SUPER},
    "ListTenantErasures": {SUPER},
    "GetTenantErasure": {SUPER},
    "CreateTenant": {"svc-auth"},
    "BatchGetTenantStates": PROCESSES,
    "ListWhatsAppAccounts": {ADMIN, AGENT},
    "GetWhatsAppAccount": {ADMIN, AGENT},
    "CreateWhatsAppAccount": {ADMIN},
    "DeleteWhatsAppAccount": {ADMIN},
    "ResolveNumbers": {"messaging-server", "messaging-inbox", "messaging-sender"},
    "ListTenantNumbers": {"messaging-server"},
    "GetSendingCredentials": {"messaging-sender"},
    "ListTenantRecords": {"operator"},
    "BatchGetTenantRecords": {"operator"},
    "ApplyTenant": {"operator"},
    "EraseTenant": {"operator"},
    "GetNumberRecord": {"operator"},
    "ListNumberRecords": {"operator"},
    "ConnectNumber": {"operator"},
    "DisconnectNumber": {"operator"},
    "ListDedicatedTenants": {"messaging-inbox", "messaging-sender"},
    "GetMyUsage": {ADMIN},
    "GetTenantUsage": {SUPER},
}


def method_and_request(installation, name):
    stubs = {
        tenants_pb: installation.tenants,
        accounts_pb: installation.accounts,
        provisioning_pb: installation.provisioning,
        usage_pb: installation.usage,
        placement_pb: installation.placement,
    }
    [(module, stub)] = [(module, stub) for module, stub in stubs.items() if hasattr(stub, name)]
    return getattr(stub, name), getattr(module, f"{name}Request")()


def test_every_rpc_is_listed():
    names = {m.descriptor.name for m in all_methods() if m.full_name.startswith("aerostic.tenants.")}
    assert names == set(CALLERS)


@pytest.mark.parametrize("name", CALLERS)
async def test_nobody_else_may_call_it(installation, mine, name):
    method, request = method_and_request(installation, name)
    roles = {ADMIN, AGENT, SUPER, "owner", ""}
    callers = {role: installation.rpc.user(tenant_id=mine, role=role) for role in roles}
    callers[SUPER] = installation.super_admin
    callers |= {process: installation.rpc.service(process) for process in PROCESSES}
    for who in callers.keys() - CALLERS[name]:
        error = await installation.refusal(callers[who].call(method, request))
        assert (error.code, error.reason) == (StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED"), who
    for token, reason in (("", "TOKEN_MISSING"), ("forged", "TOKEN_INVALID")):
        error = await installation.refusal(installation.rpc.bearer(token).call(method, request))
        assert (error.code, error.reason) == (StatusCode.UNAUTHENTICATED, reason)


@pytest.mark.parametrize("name", [name for name, callers in CALLERS.items() if AGENT in callers or ADMIN in callers])
async def test_a_user_outside_any_workspace_is_told_so(installation, name):
    method, request = method_and_request(installation, name)
    values = {"waba_id": "123456", "phone_number_id": "123456", "access_token": "EAAtoken"}
    for field in request.DESCRIPTOR.fields_by_name:
        if field == "whatsapp_account_id":
            request.whatsapp_account_id = "0198c0de-0000-7000-8000-000000000000"
        elif field in values:
            setattr(request, field, values[field])
    error = await installation.refusal(installation.rpc.user(role="admin").call(method, request))
    assert (error.code, error.reason) == (StatusCode.PERMISSION_DENIED, "TENANT_REQUIRED")


async def test_another_tenants_account_does_not_exist(installation, theirs, mine):
    [account] = await installation.listed(theirs)
    get = accounts_pb.GetWhatsAppAccountRequest(whatsapp_account_id=account.id)
    delete = accounts_pb.DeleteWhatsAppAccountRequest(whatsapp_account_id=account.id)
    admin = installation.admin(mine)
    for call in (
        admin.call(installation.accounts.GetWhatsAppAccount, get),
        admin.call(installation.accounts.DeleteWhatsAppAccount, delete),
    ):
        error = await installation.refusal(call)
        assert (error.code, error.reason) == (StatusCode.NOT_FOUND, "WHATSAPP_ACCOUNT_NOT_FOUND")
    assert await installation.listed(theirs) == [account]


async def test_lists_and_page_tokens_stay_within_the_tenant(installation, meta, theirs, mine):
    await installation.connect(theirs, meta.number())
    request = accounts_pb.ListWhatsAppAccountsRequest(page_size=1)
    page = await installation.admin(theirs).call(installation.accounts.ListWhatsAppAccounts, request)
    request.page_token = page.next_page_token
    error = await installation.refusal(
        installation.admin(mine).call(installation.accounts.ListWhatsAppAccounts, request)
    )
    assert error.reason == "PAGE_TOKEN_INVALID"
    [account] = await installation.listed(mine)
    assert account.id not in {other.id for other in await installation.listed(theirs)}


async def test_what_is_recorded_names_who_did_it(installation, meta):
    tenant_id = await installation.tenant()
    admin = installation.admin(tenant_id)
    await admin.call(installation.accounts.CreateWhatsAppAccount, meta.number().request())
    rows = await installation.look("SELECT * FROM audit_log WHERE tenant_id = $1 ORDER BY id", tenant_id)
    assert [(row["actor_name"], row["actor_user_id"]) for row in rows] == [
        ("svc-auth", None),
        ("admin", admin.principal.user_id),
    ]
    assert all(len(row["request_id"]) >= 8 for row in rows)
    assert json.loads(rows[1]["detail"]).keys() == {"phoneNumberId", "wabaId", "tokenVersion"}
