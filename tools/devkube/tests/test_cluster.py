"""What charts and the operator rely on, tried with the control plane's own API."""

import asyncio
import contextlib
import json
import subprocess

import pytest

from devkube.api import Api, ApiError
from devkube.kubelet import FAILS

PODS = {"containers": [{"name": "main", "image": "example/image:1"}]}


async def until(found, what: str, seconds: float = 60):
    """Ask until the answer is true."""
    try:
        async with asyncio.timeout(seconds):
            while not (answer := await found()):  # noqa: ASYNC110 (the API server tells nobody)
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"{what}: not within {seconds} s")
    return answer


@pytest.fixture
async def namespace(kube):
    made = await kube.api.create("/api/v1/namespaces", {"metadata": {"generateName": "test-"}})
    name = made["metadata"]["name"]
    yield name
    await kube.api.delete(f"/api/v1/namespaces/{name}")


async def test_the_server_is_a_kubernetes_of_a_known_version(kube) -> None:
    version = await kube.api.get("/version")
    assert (version["major"], version["minor"]) == ("1", "36")


async def test_nodes_are_ready_and_take_pods(kube) -> None:
    nodes = await kube.api.items("/api/v1/nodes")
    assert len(nodes) == 3
    for node in nodes:
        assert "taints" not in node["spec"]
        assert {c["type"]: c["status"] for c in node["status"]["conditions"]}["Ready"] == "True"


async def test_a_deployment_rolls_out_and_is_collected_with_its_pods(kube, namespace) -> None:
    labels = {"app": "web"}
    deployment = {
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {**PODS, "initContainers": PODS["containers"]}},
        },
    }
    deployment["spec"]["template"]["spec"]["initContainers"] = [{"name": "first", "image": "example/image:1"}]
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    await kube.api.create(path, deployment)

    async def is_available():
        return (await kube.api.get(f"{path}/web"))["status"].get("availableReplicas") == 2

    await until(is_available, "two pods")
    await kube.api.delete(f"{path}/web", propagationPolicy="Background")

    async def is_empty():
        return not await kube.api.items(f"/api/v1/namespaces/{namespace}/pods")

    await until(is_empty, "no pods")


@pytest.mark.parametrize(("annotations", "ends"), [({}, "Complete"), ({FAILS: "out of luck"}, "Failed")])
async def test_a_job_ends_as_its_pod_does(kube, namespace, annotations, ends) -> None:
    template = {"metadata": {"annotations": annotations}, "spec": {**PODS, "restartPolicy": "Never"}}
    job = {"metadata": {"name": "task"}, "spec": {"backoffLimit": 0, "template": template}}
    path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    await kube.api.create(path, job)

    async def has_ended():
        conditions = (await kube.api.get(f"{path}/task"))["status"].get("conditions", ())
        return {c["type"] for c in conditions if c["status"] == "True"} & {"Complete", "Failed"}

    assert await until(has_ended, "the job's end") == {ends}


async def test_a_namespace_goes_with_all_that_is_in_it(kube) -> None:
    name = (await kube.api.create("/api/v1/namespaces", {"metadata": {"generateName": "gone-"}}))["metadata"]["name"]
    await kube.api.create(f"/api/v1/namespaces/{name}/configmaps", {"metadata": {"name": "kept"}})
    await kube.api.delete(f"/api/v1/namespaces/{name}")

    async def is_gone():
        return await kube.api.find(f"/api/v1/namespaces/{name}") is None

    assert await until(is_gone, "the namespace's end")


async def test_a_service_account_may_do_what_it_was_granted_and_no_more(kube, namespace) -> None:
    await kube.api.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "reader"}})
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}]
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    await kube.api.create(f"{rbac}/roles", {"metadata": {"name": "reader"}, "rules": rules})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"}
    subject = {"kind": "ServiceAccount", "name": "reader", "namespace": namespace}
    binding = {"metadata": {"name": "reader"}, "roleRef": role, "subjects": [subject]}
    await kube.api.create(f"{rbac}/rolebindings", binding)
    async with Api(await kube.account(namespace, "reader")) as reader:

        async def finds_some():
            # What was granted is known a moment later, and the cluster puts its own into each namespace by and by.
            with contextlib.suppress(ApiError):
                return await reader.items(f"/api/v1/namespaces/{namespace}/configmaps")

        assert await until(finds_some, "what was granted")
        with pytest.raises(ApiError) as refused:
            await reader.items(f"/api/v1/namespaces/{namespace}/secrets")
    assert refused.value.status == 403


async def test_kubectl_reads_the_kubeconfig(kube) -> None:
    command = ["kubectl", "--kubeconfig", str(kube.kubeconfig), "get", "nodes", "--output=json"]
    try:
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False, timeout=60)
    except FileNotFoundError:
        pytest.skip("kubectl is not installed")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["items"]) == 3
