"""The chart on a real API server: taken without a warning under the restricted standard, installed, upgraded, gone."""

import asyncio
import re
import shutil
import subprocess

import pytest

from devkube import definitions
from devkube.engine import EngineMissing

RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
INSTALLATIONS = {
    "trial": (("values-trial.yaml",), {}),
    "external, clustered, scaled": (
        (),
        {
            "meta.existingSecret": "meta",
            "postgresql.external.existingSecret": "urls",
            "nats.replicas": 3,
            "processes.gateway.autoscaling.enabled": True,
            "ingress": {"enabled": True, "host": "api.shop.example", "tlsSecret": "tls"},
            "monitoring.dashboards.enabled": True,
        },
    ),
}
# With objects of KEDA, CloudNativePG, the Prometheus operator and the Gateway API.
WITH_OPERATORS = (
    ("values-production.yaml",),
    {
        "postgresql.cloudnativepg.requireOperator": False,
        "postgresql.cloudnativepg.spec": {
            "backup": {"barmanObjectStore": {"destinationPath": "s3://backups/aerostic"}, "retentionPolicy": "30d"}
        },
        "gatewayApi.enabled": True,
        "gatewayApi.parentRefs": [{"name": "edge", "namespace": "edge", "sectionName": "https"}],
        "gatewayApi.hostnames": ["api.shop.example"],
    },
)
THEIR_KINDS = {"HTTPRoute", "ScaledObject", "Cluster", "ServiceMonitor", "PrometheusRule"}


@pytest.fixture
async def namespace(kube) -> str:
    made = await kube.api.create("/api/v1/namespaces", {"metadata": {"generateName": "chart-", "labels": RESTRICTED}})
    name = made["metadata"]["name"]
    # Nobody makes volumes here; these wait for whoever claims them.
    for number in range(2):
        volume = {
            "metadata": {"name": f"{name}-{number}"},
            "spec": {
                "capacity": {"storage": "2Gi"},
                "accessModes": ["ReadWriteOnce"],
                "hostPath": {"path": f"/volumes/{name}-{number}"},
            },
        }
        await kube.api.create("/api/v1/persistentvolumes", volume)
    return name


@pytest.fixture
def run(kube):
    async def command(*words: str, stdin: str = "") -> subprocess.CompletedProcess:
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "KUBECONFIG": str(kube.kubeconfig),
            "HOME": "/nonexistent",
        }
        return await asyncio.to_thread(
            subprocess.run,
            words,
            env=environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=220,
        )

    return command


@pytest.fixture
def take(chart, run, namespace, absent):
    """What the API server says to an installation's objects: strictly, and over what other tests of the run installed
    of the cluster's own objects. Nothing of it stays.
    """

    async def dry_run(installation: tuple) -> str:
        if not shutil.which("kubectl"):
            absent("kubectl is not installed")
        arguments = chart.arguments(*installation)
        rendered = chart.run("template", "shop", str(chart.folder), "--namespace", namespace, *arguments)
        assert rendered.returncode == 0, rendered.stderr
        taken = await run(
            *("kubectl", "apply", "--server-side", "--force-conflicts", "--validate=strict"),
            *("--namespace", namespace, "--dry-run=server", "--filename=-"),
            stdin=rendered.stdout,
        )
        assert taken.returncode == 0, taken.stderr
        assert "Warning" not in taken.stderr
        return taken.stdout

    return dry_run


@pytest.fixture
async def operators(kube, absent) -> None:
    """What the operators of others define, as after their installation."""
    try:
        await definitions.install(kube.api)
    except EngineMissing as missing:
        absent(f"NOT TESTED with the definitions of other operators: {missing}")


@pytest.mark.parametrize("installation", INSTALLATIONS)
async def test_the_api_server_takes_every_object_without_a_warning(take, installation) -> None:
    taken = await take(INSTALLATIONS[installation])
    assert taken.count("(server dry run)") >= 40


@pytest.mark.usefixtures("operators")
async def test_objects_for_other_operators_are_as_their_definitions_want_them(chart, take) -> None:
    taken = await take(WITH_OPERATORS)
    files, values = WITH_OPERATORS
    rendered = [each for each in chart.template(*files, values=values) if each["kind"] in THEIR_KINDS]
    assert {each["kind"] for each in rendered} == THEIR_KINDS
    for each in rendered:
        group = each["apiVersion"].split("/")[0]
        assert f"{each['kind'].lower()}.{group}/{each['metadata']['name']} serverside-applied" in taken


def test_triggers_say_what_keda_reads(chart, absent) -> None:
    """Their metadata have no schema: KEDA's own source does."""
    try:
        scaler = definitions.source("keda") / "pkg" / "scalers" / "nats_jetstream_scaler.go"
    except EngineMissing as missing:
        absent(f"NOT TESTED against KEDA: {missing}")
    tags = re.findall(r'`keda:"name=(\w+), ([^"]*)"`', scaler.read_text(encoding="utf-8"))
    required = {name for name, rest in tags if "optional" not in rest and "default" not in rest}
    assert required == {"stream", "consumer", "natsServerMonitoringEndpoint"}
    files, values = WITH_OPERATORS
    objects = chart.template(*files, values=values)
    every = [trigger for each in chart.of_kind(objects, "ScaledObject") for trigger in each["spec"]["triggers"]]
    triggers = [trigger for trigger in every if trigger["type"] != "cpu"]
    assert (len(triggers), len(every)) == (4 + 2 * 8, 4 + 2 * 8 + 1)
    services = {each["metadata"]["name"]: each["spec"] for each in chart.of_kind(objects, "Service")}
    for trigger in triggers:
        assert trigger["type"] == "nats-jetstream"
        assert required <= set(trigger["metadata"]) <= {name for name, _ in tags}
        service, namespace, domain = trigger["metadata"]["natsServerMonitoringEndpoint"].split(".")
        assert (namespace, domain) == ("ns", "svc:8222")
        # A name for each server, which a Service with an address of its own has not.
        assert services[service]["clusterIP"] == "None"


async def test_it_is_installed_upgraded_rolled_back_and_removed_without_its_data(chart, run, namespace, kube) -> None:
    async def helm(command: str, *more: str) -> None:
        done = await run(str(chart.program), command, "shop", "--namespace", namespace, *more)
        assert done.returncode == 0, done.stderr

    async def jobs() -> set[str]:
        found = await kube.api.items(f"/apis/batch/v1/namespaces/{namespace}/jobs")
        return {each["metadata"]["name"] for each in found}

    # What is the cluster's own stays with other tests on this API server, which may have made it before.
    trial = [str(chart.folder), *chart.arguments(("values-trial.yaml",), {"operator.protection": False})]
    waiting = ["--wait", "--timeout", "3m"]
    await helm("install", *trial, "--take-ownership", *waiting)
    first = await jobs()
    assert len(first) == 2
    await helm("upgrade", *trial, "--set", "image.tag=9.9.9", *waiting)
    second = await jobs()
    assert len(second) == 2
    assert not first & second, "a release has Jobs of its own"
    gateway = await kube.api.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/shop-aerostic-gateway")
    assert gateway["spec"]["template"]["spec"]["containers"][0]["image"] == "aerostic/gateway:9.9.9"
    assert gateway["status"]["availableReplicas"] == 1
    await helm("rollback", "1", *waiting)
    await helm("uninstall", *waiting)
    definitions = await kube.api.items("/apis/apiextensions.k8s.io/v1/customresourcedefinitions")
    assert "tenants.aerostic.io" in {each["metadata"]["name"] for each in definitions}
    claims = await kube.api.items(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims")
    assert len(claims) == 2
