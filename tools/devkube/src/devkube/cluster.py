"""One control plane: etcd, API server, controller manager, scheduler and the kubelet of `devkube.kubelet`, in a folder.

async with Cluster(tmp_path) as cluster:
    subprocess.run(["kubectl", "--kubeconfig", cluster.kubeconfig, "get", "nodes"])
"""

import asyncio
import contextlib
import json
import os
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp

from devkube import engine
from devkube.api import Access, Api
from devkube.certificates import Authority, Pair, signing_pair
from devkube.kubelet import Kubelet
from devstack.child import Child, Command
from devstack.ports import LOOPBACK, PortClaims

_START_SECONDS = 90
_ADMINS = "system:masters"


class ClusterFailed(RuntimeError):
    """A program of the control plane did not come up. The text has its last lines."""


class Cluster:
    """Ports are free ones on loopback. Create it in the main thread: its programs end with the thread."""

    def __init__(self, folder: Path, *, nodes: int = 3) -> None:
        self.folder = folder
        self._nodes = nodes
        self._ports = PortClaims()
        self._authority = Authority()
        self._children: list[Child] = []
        self._stack = contextlib.AsyncExitStack()
        self.url = ""
        self.api: Api
        self.kubelet: Kubelet

    @property
    def kubeconfig(self) -> Path:
        """Of an administrator who may do anything."""
        return self.folder / "admin.kubeconfig"

    def access(self, user: str, *groups: str) -> Access:
        """A caller by certificate, known to the API server by this name and these groups."""
        pair = self._authority.client(user, *groups)
        certificate, key = self._write_pair(f"client-{user.replace(':', '-')}", pair)
        return Access(self.url, self.folder / "ca.crt", certificate, key)

    async def account(self, namespace: str, name: str) -> Access:
        """A service account of the cluster, by a token as its pods get one."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        answer = await self.api.create(path, request)
        return Access(self.url, self.folder / "ca.crt", token=answer["status"]["token"])

    async def start(self) -> None:
        """Raises ClusterFailed, engine.EngineMissing or engine.BuildFailed."""
        programs = await asyncio.to_thread(engine.build)
        self.folder.mkdir(parents=True, exist_ok=True)
        _write(self.folder / "ca.crt", self._authority.certificate)
        try:
            await self._start_servers(programs)
            self.api = await self._stack.enter_async_context(Api(self.access("devkube-admin", _ADMINS)))
            self.write_kubeconfig("admin", self.access("admin", _ADMINS))
            await self._start_controllers(programs)
            self.kubelet = await self._stack.enter_async_context(Kubelet(self.api, nodes=self._nodes))
            await self._until_settled()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        await self._stack.aclose()
        # etcd last: an API server that has lost it waits for it instead of ending.
        for child in reversed(self._children):
            await child.stop(grace_seconds=15)
        self._children.clear()
        self._ports.release()

    def write_kubeconfig(self, name: str, access: Access) -> Path:
        path = self.folder / f"{name}.kubeconfig"
        _write(path, json.dumps(access.kubeconfig()).encode())
        return path

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _start_servers(self, programs: Path) -> None:
        etcd, peer, secure = (self._ports.claim() for _ in range(3))
        await self._run(
            programs / "etcd",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls=http://{LOOPBACK}:{etcd}",
            f"--advertise-client-urls=http://{LOOPBACK}:{etcd}",
            f"--listen-peer-urls=http://{LOOPBACK}:{peer}",
            # Nobody keeps these data.
            "--unsafe-no-fsync",
            "--logger=zap",
            "--log-level=warn",
        )
        await self._until(f"http://{LOOPBACK}:{etcd}/health")
        certificate, key = self._write_pair("apiserver", self._authority.server(LOOPBACK))
        public, private = self._write_pair("service-accounts", signing_pair())
        await self._run(
            programs / "kube-apiserver",
            f"--etcd-servers=http://{LOOPBACK}:{etcd}",
            f"--bind-address={LOOPBACK}",
            f"--advertise-address={LOOPBACK}",
            f"--secure-port={secure}",
            f"--tls-cert-file={certificate}",
            f"--tls-private-key-file={key}",
            f"--client-ca-file={self.folder / 'ca.crt'}",
            f"--cert-dir={self.folder}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={public}",
            f"--service-account-signing-key-file={private}",
            "--authorization-mode=RBAC",
            "--endpoint-reconciler-type=none",
        )
        self.url = f"https://{LOOPBACK}:{secure}"
        await self._until(f"{self.url}/readyz")

    async def _start_controllers(self, programs: Path) -> None:
        manager = self.write_kubeconfig("controllers", self.access("system:kube-controller-manager", _ADMINS))
        common = ("--leader-elect=false", f"--bind-address={LOOPBACK}", f"--cert-dir={self.folder}")
        await self._run(
            programs / "kube-controller-manager",
            f"--kubeconfig={manager}",
            f"--authentication-kubeconfig={manager}",
            f"--authorization-kubeconfig={manager}",
            f"--service-account-private-key-file={self.folder / 'service-accounts.key'}",
            f"--root-ca-file={self.folder / 'ca.crt'}",
            "--use-service-account-credentials=true",
            # Our nodes report once and never die.
            "--node-monitor-grace-period=24h",
            f"--secure-port={self._ports.claim()}",
            *common,
        )
        scheduler = self.write_kubeconfig("scheduler", self.access("system:kube-scheduler", _ADMINS))
        await self._run(
            programs / "kube-scheduler",
            f"--kubeconfig={scheduler}",
            f"--authentication-kubeconfig={scheduler}",
            f"--authorization-kubeconfig={scheduler}",
            f"--secure-port={self._ports.claim()}",
            *common,
        )

    async def _run(self, program: Path, *flags: str) -> None:
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(self.folder), "GOMEMLIMIT": "512MiB"}
        child = Child(Command((str(program), *flags), environment, self.folder), self.folder / f"{program.name}.log")
        await child.start()
        self._children.append(child)

    async def _until(self, url: str) -> None:
        context = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
        deadline = time.monotonic() + _START_SECONDS
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as http:
            while True:
                self._require_running(deadline)
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with http.get(url, timeout=aiohttp.ClientTimeout(total=5)) as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(0.05)

    async def _until_settled(self) -> None:
        """Until what every namespace has is there, and pods would find a node."""
        deadline = time.monotonic() + _START_SECONDS
        while True:
            account = await self.api.find("/api/v1/namespaces/default/serviceaccounts/default")
            nodes = await self.api.items("/api/v1/nodes")
            if account and nodes and not any(node["spec"].get("taints") for node in nodes):
                return
            self._require_running(deadline)
            await asyncio.sleep(0.05)

    def _require_running(self, deadline: float) -> None:
        stuck = [child for child in self._children if not child.running]
        if not stuck and time.monotonic() > deadline:
            stuck = self._children
        if stuck:
            raise ClusterFailed("\n".join(_last_words(stuck)))

    def _write_pair(self, name: str, pair: Pair) -> tuple[Path, Path]:
        certificate, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        _write(certificate, pair.certificate)
        _write(key, pair.key)
        return certificate, key


def _last_words(children: Sequence[Child]) -> list[str]:
    return [line for child in children for line in (f"{child.log.stem} does not start:", *child.last_lines())]


def _write(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as file:
        file.write(content)
