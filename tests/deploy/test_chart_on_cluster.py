"""The chart on a real API server: taken without a warning under the restricted standard, installed, upgraded, gone."""

import asyncio
import shutil
import subprocess

import pytest

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


@pytest.mark.parametrize("installation", INSTALLATIONS)
async def test_the_api_server_takes_every_object_without_a_warning(chart, run, namespace, installation, absent) -> None:
    if not shutil.which("kubectl"):
        absent("kubectl is not installed")
    arguments = chart.arguments(*INSTALLATIONS[installation])
    rendered = chart.run("template", "shop", str(chart.folder), "--namespace", namespace, *arguments)
    assert rendered.returncode == 0, rendered.stderr
    # Server-side, and over what other tests of the run installed of the cluster's own objects.
    taken = await run(
        *("kubectl", "apply", "--server-side", "--force-conflicts", "--namespace", namespace),
        *("--dry-run=server", "--filename=-"),
        stdin=rendered.stdout,
    )
    assert taken.returncode == 0, taken.stderr
    assert "Warning" not in taken.stderr
    assert taken.stdout.count("(server dry run)") >= 40


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
