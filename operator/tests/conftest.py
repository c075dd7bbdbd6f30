"""The operator as it runs: a process with its service account's rights, a real API server, real svc-tenants and
svc-auth on real PostgreSQL.
"""

import asyncio
import os
import sys
import uuid
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio
import yaml
from aerostic.auth.v1.invitation_service_pb2_grpc import InvitationServiceStub
from aerostic.tenants.v1.provisioning_service_pb2_grpc import ProvisioningServiceStub
from aerostic.tenants.v1.tenant_service_pb2_grpc import TenantServiceStub
from aiohttp import web

from devstack.ports import PortClaims, accepts
from kit.crypto import KeyRing
from kit.db import Database, as_app_error
from kit.grpc_client import Channel
from kit.keys import encode_key
from kit.testing.rpc import Authority, seed, serve
from meta_emulator import app as emulator_app
from meta_emulator import lifecycle
from meta_emulator.emulator import Emulator
from meta_emulator.settings import Settings as EmulatorSettings
from svc_auth.passwords import Passwords
from svc_auth.server import AuthServer, MemberServer
from svc_auth.server_invitations import InvitationServer
from svc_auth.signing_in import Parts
from svc_auth.workspaces import Workspaces
from svc_tenants.connecting import Connector
from svc_tenants.graph import GraphClient
from svc_tenants.server import TenantServer
from svc_tenants.server_provisioning import ProvisioningServer

sys.path.insert(0, str(Path(__file__).parent))

from operator_objects import INVITATIONS, TOKENS, Accounts, Templates, Tenants, until

CHART = Path(__file__).resolve().parents[2] / "helm" / "aerostic"
APP_ID = "100000000000001"
APP_SECRET = "an-app-secret-for-tests"


class Platform:
    """Svc-tenants and svc-auth, and everybody who calls them. They can be away."""

    def __init__(self, authority, databases, graph_url) -> None:
        self.authority = authority
        self.graph_url = graph_url
        self.databases = databases
        self.ports = PortClaims()
        self.tenants_port, self.auth_port = self.ports.claim(), self.ports.claim()
        self._running = AsyncExitStack()

    async def start(self) -> None:
        stack, options = self._running, {"translate": as_app_error, "authority": self.authority}
        tenants_db = await Database.connect(self.databases["tenants"].app_url, name="tenants of the operator's tests")
        auth_db = await Database.connect(self.databases["auth"].app_url, name="auth of the operator's tests")
        stack.push_async_callback(tenants_db.close)
        stack.push_async_callback(auth_db.close)
        keys = KeyRing({"k": b"k" * 32})
        graph = GraphClient(self.graph_url, "v24.0", app_id=APP_ID, app_secret=APP_SECRET)
        stack.push_async_callback(graph.close)
        provisioning = ProvisioningServer(tenants_db, Connector(tenants_db, graph, keys))
        tenants = serve(TenantServer(tenants_db), provisioning, port=self.tenants_port, **options)
        self.rpc = await stack.enter_async_context(tenants)
        channel = await stack.enter_async_context(Channel(self.rpc.target, self.authority.identities["svc-auth"]))
        parts = Parts(auth_db, keys, Passwords(4), Workspaces(channel), timedelta(days=1))
        stack.callback(parts.passwords.close)
        servers = (AuthServer(parts), MemberServer(parts), InvitationServer(parts))
        self.auth_rpc = await stack.enter_async_context(serve(*servers, port=self.auth_port, **options))
        self.tenants = self.rpc.stub(TenantServiceStub)
        self.provisioning = self.rpc.stub(ProvisioningServiceStub)
        self.invitations = self.auth_rpc.stub(InvitationServiceStub)

    async def stop(self) -> None:
        await self._running.aclose()
        self._running = AsyncExitStack()

    async def register(self, slug, *, display_name="Acme") -> str:
        """A workspace that was born without Kubernetes; its id."""
        from aerostic.tenants.v1.tenant_service_pb2 import CreateTenantRequest

        tenant_id = str(uuid.uuid4())
        request = CreateTenantRequest(tenant_id=tenant_id, display_name=display_name, slug=slug)
        await self.rpc.service("svc-auth").call(self.tenants.CreateTenant, request)
        return tenant_id

    async def erase(self, slug) -> None:
        from aerostic.tenants.v1.provisioning_service_pb2 import EraseTenantRequest

        request = EraseTenantRequest(tenant_id=(await self.find(slug)).id, slug=slug)
        await self.rpc.service("operator").call(self.provisioning.EraseTenant, request)

    async def end_erasure(self, slug) -> None:
        """As the worker of svc-tenants does when nothing is left; it does not run here."""
        connection = await asyncpg.connect(self.databases["tenants"].superuser_url)
        try:
            [row] = await connection.fetch("SELECT id FROM tenants WHERE slug = $1 AND state = 'deleting'", slug)
            await connection.execute("DELETE FROM audit_log WHERE tenant_id = $1", row["id"])
            await connection.execute("DELETE FROM tenants WHERE id = $1", row["id"])
        finally:
            await connection.close()

    async def find(self, slug):
        """The workspace as the platform has it; None where it has none."""
        from aerostic.tenants.v1.provisioning_service_pb2 import BatchGetTenantRecordsRequest

        request = BatchGetTenantRecordsRequest(slugs=[slug])
        answer = await self.rpc.service("operator").call(self.provisioning.BatchGetTenantRecords, request)
        return answer.records[0].tenant if answer.records else None

    async def until(self, slug, holds) -> None:
        """Wait until the workspace is so."""
        tenant = None

        async def stands():
            nonlocal tenant
            tenant = await self.find(slug)
            return tenant is not None and holds(tenant)

        await until(stands, lambda: f"{slug}; it is {tenant}")

    async def apply(self, tenant_id, slug, **fields) -> None:
        """A change that was made elsewhere."""
        from aerostic.tenants.v1.provisioning_service_pb2 import ApplyTenantRequest

        request = ApplyTenantRequest(tenant_id=tenant_id, slug=slug, **fields)
        await self.rpc.service("operator").call(self.provisioning.ApplyTenant, request)


class OperatorProcess:
    """`python -m aerostic_operator run` with the rights of its service account."""

    def __init__(self, cluster, platform, folder, *, access, namespace, identity="one", **settings) -> None:
        self._ports = PortClaims()
        self.metrics_port = self._ports.claim()
        self.log = folder / f"{identity}.log"
        self.process = None
        defaults = {
            "AEROSTIC_SERVICE_KEY": encode_key(seed("operator")),
            "AEROSTIC_TENANTS_TARGET": f"127.0.0.1:{platform.tenants_port}",
            "AEROSTIC_AUTH_TARGET": f"127.0.0.1:{platform.auth_port}",
            "AEROSTIC_OPERATOR_METRICS_PORT": str(self.metrics_port),
            "AEROSTIC_OPERATOR_NAMESPACE": namespace,
            "AEROSTIC_OPERATOR_INVITATIONS_NAMESPACE": INVITATIONS,
            "AEROSTIC_OPERATOR_IDENTITY": identity,
            "AEROSTIC_OPERATOR_RESYNC_SECONDS": "0.5",
            # An API server whose disk others use may stand still for a while; a leader ends after two thirds of this.
            "AEROSTIC_OPERATOR_LEASE_SECONDS": "90",
            "KUBECONFIG": str(cluster.write_kubeconfig(f"operator-{identity}", access)),
        }
        self.environment = {**_outside(), **defaults, **settings}

    async def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "aerostic_operator", "run"),
                env=self.environment,
                stdout=output,
                stderr=output,
            )

        async def listens():
            assert self.process.returncode is None, self.log.read_text()
            return accepts(self.metrics_port)

        await until(listens, lambda: self.log.read_text()[-2000:])

    async def stop(self) -> int:
        """End it as a supervisor does; its exit code."""
        with suppress(ProcessLookupError):
            self.process.terminate()
        return await asyncio.wait_for(self.process.wait(), 30)

    async def kill(self) -> None:
        """As a machine does that dies: nothing is given back."""
        # One that could not renew its lease in time is dead already, and gave nothing back either.
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()

    async def metric(self, name) -> float:
        import aiohttp

        url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        async with aiohttp.ClientSession() as http, http.get(url) as answer:
            lines = (await answer.text()).splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def _outside():
    return {name: value for name, value in os.environ.items() if not name.startswith(("AEROSTIC_", "KUBE"))}


async def install(api, namespace) -> None:
    """What the chart installs for the operator: definitions, rights as narrow as they may be, protection."""
    for name in (namespace, INVITATIONS):
        await api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    for path in sorted((CHART / "crds").glob("*.yaml")):
        crd = yaml.safe_load(path.read_text())
        place = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}"
        await api.apply(place, crd)

        async def is_served(place=place, spec=crd["spec"]):
            conditions = (await api.get(place)).get("status", {}).get("conditions") or ()
            is_known = {"Established", "NamesAccepted"} <= {c["type"] for c in conditions if c["status"] == "True"}
            return is_known and await api.serves(spec["group"], spec["names"]["plural"])

        await until(is_served, lambda place=place: place)
    await api.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "operator"}})
    rules = yaml.safe_load((CHART / "files" / "operator" / "rules.yaml").read_text())
    await grant(api, namespace, "", rules["cluster"])
    await grant(api, namespace, namespace, rules["namespace"] + rules["workers"])
    await grant(api, namespace, INVITATIONS, rules["invitations"])
    await grant(api, namespace, TOKENS, rules["tokens"])
    for manifest in yaml.safe_load_all((CHART / "files" / "operator" / "protection.yaml").read_text()):
        plural = {
            "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
            "ValidatingAdmissionPolicyBinding": "validatingadmissionpolicybindings",
        }[manifest["kind"]]
        place = f"/apis/admissionregistration.k8s.io/v1/{plural}/{manifest['metadata']['name']}"
        await api.apply(place, manifest)


async def grant(api, home, namespace, rules) -> None:
    """Let the operator, which lives in `home`, do this in a namespace, or everywhere."""
    kind, folder = ("Role", f"/namespaces/{namespace}") if namespace else ("ClusterRole", "")
    place, name = f"/apis/rbac.authorization.k8s.io/v1{folder}/{kind.lower()}", "operator"
    await api.create(f"{place}s", {"metadata": {"name": name}, "rules": rules})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}
    subjects = [{"kind": "ServiceAccount", "name": name, "namespace": home}]
    await api.create(f"{place}bindings", {"metadata": {"name": name}, "roleRef": role, "subjects": subjects})


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def installed(kube):
    """The namespace that the operator was installed into."""
    await install(kube.api, "aerostic-system")
    return "aerostic-system"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def emulator():
    """Meta."""
    emulator = Emulator(EmulatorSettings(app_id=APP_ID, app_secret=APP_SECRET, verify_token="unused"))
    await lifecycle.start(emulator)
    runner = web.AppRunner(emulator_app.build(emulator), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    emulator.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield emulator
    await runner.cleanup()
    await lifecycle.stop(emulator)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def platform(postgres, emulator):
    databases = {name: postgres.fresh_database(name) for name in ("tenants", "auth")}
    platform = Platform(Authority(["gateway"]), databases, emulator.url)
    await platform.start()
    yield platform
    await platform.stop()
    for database in databases.values():
        database.drop()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def templates(tmp_path_factory):
    """The workers of dedicated tenants, as the chart would mount them."""
    templates = Templates(tmp_path_factory.mktemp("workers"))
    templates.write()
    return templates


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def operators(kube, installed, platform, templates, tmp_path_factory):
    """`async with operators(identity="two") as operator`: a running operator. Settings as in the environment."""
    folder = tmp_path_factory.mktemp("operator")

    @asynccontextmanager
    async def run(**settings):
        access = await kube.account(installed, "operator")
        settings.setdefault("AEROSTIC_OPERATOR_WORKERS_FOLDER", str(templates.folder))
        operator = OperatorProcess(kube, platform, folder, access=access, namespace=installed, **settings)
        await operator.start()
        try:
            yield operator
        finally:
            if operator.process.returncode is None:
                await operator.stop()

    yield run
    await clear(kube)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def operator(operators, kube):
    async with operators() as operator:
        yield operator


async def clear(kube) -> None:
    """Leave nothing to the next module's operator: it has another platform."""
    await kube.api.delete(Accounts.PATH)
    for body in await kube.api.items(Accounts.PATH):
        await kube.api.patch(f"{Accounts.PATH}/{body['metadata']['name']}", {"metadata": {"finalizers": []}})
    places = asyncio.Semaphore(20)

    async def remove(slug) -> None:
        path = f"{Tenants.PATH}/{slug}"
        annotations = {"aerostic.io/confirm-delete": slug, "aerostic.io/abandon": "true"}
        async with places:
            await kube.api.patch(path, {"metadata": {"annotations": annotations, "finalizers": []}})
            await kube.api.delete(path)

    async with asyncio.TaskGroup() as tasks:
        for body in await kube.api.items(Tenants.PATH):
            tasks.create_task(remove(body["metadata"]["name"]))


@pytest.fixture(name="until")
def _until():
    return until


@pytest.fixture
def tenants(kube, installed):
    return Tenants(kube.api)


@pytest.fixture
def accounts(kube, installed):
    return Accounts(kube.api)


@pytest.fixture
def slug() -> str:
    return f"acme-{uuid.uuid4().hex[:10]}"
