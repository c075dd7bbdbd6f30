"""The definitions that well-known operators bring, so that objects made for them meet their schemas.

They ship inside the operators' Go modules. Go's own cache keeps them by version, and the sums here are those that
go.sum would hold, so that nobody can put others in their place.
"""

import asyncio
import functools
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from devkube.api import Api
from devkube.engine import EngineMissing, go_program

_SECONDS = 300
_SERVED_SECONDS = 60
_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@dataclass(frozen=True)
class Module:
    """A Go module at a version, and where in it the definitions lie: one file each."""

    path: str
    version: str
    sum: str
    folder: str
    files: tuple[str, ...]


MODULES = {
    "gateway-api": Module(
        "sigs.k8s.io/gateway-api",
        "v1.4.1",
        "h1:NPxFutNkKNa8UfLd2CMlEuhIPMQgDQ6DXNKG9sHbJU8=",
        "config/crd/standard",
        ("gateway.networking.k8s.io_httproutes.yaml",),
    ),
    "keda": Module(
        "github.com/kedacore/keda/v2",
        "v2.18.3",
        "h1:PY3o80tzBAzCffS8J6eBZctT4B+g/r26zErNSMleC50=",
        "config/crd/bases",
        ("keda.sh_scaledobjects.yaml",),
    ),
    "cloudnative-pg": Module(
        "github.com/cloudnative-pg/cloudnative-pg",
        "v1.28.0",
        "h1:vkv0a0ewDSfJOPJrsyUr4uczsxheReAWf/k171V0Dm0=",
        "config/crd/bases",
        ("postgresql.cnpg.io_clusters.yaml", "postgresql.cnpg.io_scheduledbackups.yaml"),
    ),
    "prometheus-operator": Module(
        "github.com/prometheus-operator/prometheus-operator",
        "v0.87.1",
        "h1:zjzxO10Rv3goA/GDbE3Vgf2TNhhcOp7fZbRG0Tkm3OY=",
        "example/prometheus-operator-crd",
        ("monitoring.coreos.com_servicemonitors.yaml", "monitoring.coreos.com_prometheusrules.yaml"),
    ),
}


@functools.cache
def source(name: str) -> Path:
    """The folder of a module's sources, fetched where it is not there yet.

    Raises EngineMissing where it cannot be had, RuntimeError where it is not what it was.
    """
    module = MODULES[name]
    command = [go_program(), "mod", "download", "-json", f"{module.path}@{module.version}"]
    try:
        # Outside of any module: the version here is the one that counts.
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        raise EngineMissing(f"{module.path} was not fetched within {_SECONDS} seconds.") from None
    if done.returncode != 0:
        raise EngineMissing(f"{module.path} {module.version} cannot be fetched: {(done.stdout + done.stderr)[-900:]}")
    answer = json.loads(done.stdout)
    if answer["Sum"] != module.sum:
        raise RuntimeError(f"{module.path} {module.version} has the sum {answer['Sum']} instead of {module.sum}.")
    return Path(answer["Dir"])


async def install(api: Api, *names: str) -> None:
    """Let the API server serve what these modules define, all of them if none is named; returns when clients find it.
    Raises as `source` does.
    """
    kinds: list[tuple[str, str]] = []
    for name in names or MODULES:
        for file in MODULES[name].files:
            text = (source(name) / MODULES[name].folder / file).read_text(encoding="utf-8")
            # Their files are named <group>_<plural>.yaml.
            group, plural = file.removesuffix(".yaml").split("_")
            await api.apply(f"{_PATH}/{plural}.{group}", text)
            kinds.append((group, plural))
    async with asyncio.timeout(_SERVED_SECONDS):
        for group, plural in kinds:
            while not await api.serves(group, plural):  # noqa: ASYNC110 (the server tells nobody)
                await asyncio.sleep(0.1)
