"""The templates of dedicated tenants' workers: like the shared workers, for one tenant, and taken by the API server."""

import json

import pytest
import yaml

from aerostic_operator import children
from aerostic_operator.tenants import workers
from aerostic_operator.tenants.model import Size
from devkube import definitions
from devkube.api import ApiError
from devkube.engine import EngineMissing

pytestmark = pytest.mark.timeout(1800)  # the first run on a machine builds helm

TENANT = "0192f3a4-5b6c-7d8e-9f00-112233445566"
OWNER = {
    "apiVersion": "aerostic.io/v1alpha1",
    "kind": "Tenant",
    "metadata": {"name": "a" * 40, "uid": TENANT},
    "spec": {"slug": "a" * 40},
}
PROCESSES = {"inbox": "messaging-inbox", "sender": "messaging-sender"}
PRODUCTION = {"postgresql.cloudnativepg.requireOperator": False}
# A node for these pods alone, and what else may be said of a process.
PARTICULAR = {
    "processes.messaging-sender.nodeSelector": {"pool": "workers"},
    "processes.messaging-sender.podLabels": {"team": "a"},
    "processes.messaging-sender.settings": {"AEROSTIC_LOG_LEVEL": "debug"},
    "priorityClassName": "high",
}


@pytest.fixture
def templates(chart, tmp_path):
    """Templates of an installation, read as the operator reads them, by worker."""

    def render(*files, values=None):
        [configured] = chart.of_kind(chart.template(*files, values=values), "ConfigMap", "operator")
        for name, text in configured["data"].items():
            (tmp_path / name).write_text(text, encoding="utf-8")
        return {each.worker: each for each in workers.load(tmp_path)}

    return render


def made(template, size=None) -> dict[str, dict]:
    """A tenant's objects, by kind."""
    return {each["kind"]: each for each in workers.filled(template, OWNER, TENANT, size)}


def test_the_operator_finds_them_where_they_are_mounted(chart) -> None:
    objects = chart.template("values-trial.yaml")
    [configured] = chart.of_kind(objects, "ConfigMap", "operator")
    pod = chart.pods(objects)["Deployment/shop-aerostic-operator"]
    [volume] = [each for each in pod["volumes"] if "configMap" in each]
    [mount] = [each for each in pod["containers"][0]["volumeMounts"] if each["name"] == volume["name"]]
    assert volume["configMap"]["name"] == configured["metadata"]["name"]
    assert mount["mountPath"] == chart.environment(objects, "operator")["AEROSTIC_OPERATOR_WORKERS_FOLDER"]
    assert configured["data"].keys() == {"inbox.json", "sender.json"}


@pytest.mark.parametrize("values", [{}, PARTICULAR], ids=["as it comes", "particular"])
@pytest.mark.parametrize("worker", PROCESSES)
def test_they_are_the_shared_workers_for_one_tenant(chart, templates, worker, values) -> None:
    process = PROCESSES[worker]
    objects = chart.template("values-trial.yaml", values=values)
    [shared] = chart.of_kind(objects, "Deployment", process)
    own = made(templates("values-trial.yaml", values=values)[worker])["Deployment"]
    theirs, ours = (each["spec"]["template"]["spec"] for each in (shared, own))
    [container], [mine] = theirs["containers"], ours["containers"]
    assert {"name": "AEROSTIC_MESSAGING_TENANT", "value": TENANT} in mine["env"]
    mine["env"] = [each for each in mine["env"] if each["name"] != "AEROSTIC_MESSAGING_TENANT"]
    assert sorted(mine["env"], key=str) == sorted(container["env"], key=str)
    assert {**mine, "env": 0} == {**container, "env": 0}
    spread, others = ours.pop("topologySpreadConstraints"), theirs.pop("topologySpreadConstraints")
    assert len(spread) == len(others) == 2
    assert {**ours, "containers": 0} == {**theirs, "containers": 0}
    selector = own["spec"]["selector"]["matchLabels"]
    assert all(each["labelSelector"]["matchLabels"] == selector for each in spread)
    assert selector.items() <= own["spec"]["template"]["metadata"]["labels"].items()
    # Neither selects the other's pods.
    assert selector["app.kubernetes.io/component"] == f"tenant-{worker}"
    assert selector["aerostic.io/tenant"] == OWNER["spec"]["slug"]
    assert own["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "aerostic-operator"
    for key in ("strategy", "revisionHistoryLimit"):
        assert own["spec"][key] == shared["spec"][key]


def test_sizes_and_resources_are_those_of_the_values(templates) -> None:
    resources = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "1Gi"}}
    given = {"operator.dedicatedWorkers.sender": {"min": 2, "max": 5, "resources": resources}}
    found = templates("values-trial.yaml", values=given)
    assert found["sender"].usual == (2, 5)
    deployment = made(found["sender"])["Deployment"]
    # Nothing scales the trial's workers.
    assert deployment["spec"]["replicas"] == 2
    assert deployment["spec"]["template"]["spec"]["containers"][0]["resources"] == resources
    assert made(found["sender"]).keys() == {"Deployment", "PodDisruptionBudget"}
    assert made(found["inbox"]).keys() == {"Deployment"}


def test_what_scales_the_shared_workers_scales_a_tenants_by_its_own_lag(templates) -> None:
    found = templates("values-production.yaml", values=PRODUCTION)
    inbox, sender = (made(found[worker], Size(1, 3)) for worker in ("inbox", "sender"))
    assert inbox.keys() == sender.keys() == {"Deployment", "ScaledObject"}
    for each in (inbox, sender):
        assert "replicas" not in each["Deployment"]["spec"]
        scaler = each["ScaledObject"]["spec"]
        assert (scaler["minReplicaCount"], scaler["maxReplicaCount"]) == (1, 3)
        assert scaler["scaleTargetRef"]["name"] == each["Deployment"]["metadata"]["name"]
        # KEDA puts "keda-hpa-" before it, and into a label.
        assert len(f"keda-hpa-{each['ScaledObject']['metadata']['name']}") <= 63
    triggers = [each["ScaledObject"]["spec"]["triggers"] for each in (inbox, sender)]
    consumers = [[t["metadata"]["consumer"] for t in of if t["type"] == "nats-jetstream"] for of in triggers]
    assert [[t["type"] for t in of if t["type"] != "nats-jetstream"] for of in triggers] == [[], ["cpu"]]
    assert consumers[0] == [f"inbox-{TENANT}-{number}" for number in range(len(consumers[0]))]
    assert f"sender-live-{TENANT}-0" in consumers[1]
    assert f"sender-bulk-{TENANT}-0" in consumers[1]
    scaled = {"processes.messaging-inbox.autoscaling.enabled": True}
    cpu = made(templates("values-trial.yaml", values=scaled)["inbox"], Size(1, 3))
    assert cpu.keys() == {"Deployment", "HorizontalPodAutoscaler"}


def test_a_way_that_they_need_is_open_and_the_rest_closed(chart, templates) -> None:
    objects = chart.template("values-trial.yaml")
    label = "app.kubernetes.io/component"
    policies = {
        p["spec"]["podSelector"]["matchLabels"].get(label): p["spec"] for p in chart.of_kind(objects, "NetworkPolicy")
    }
    default = next(
        p for p in chart.of_kind(objects, "NetworkPolicy") if label not in p["spec"]["podSelector"]["matchLabels"]
    )
    for worker, process in PROCESSES.items():
        labels = made(templates("values-trial.yaml")[worker])["Deployment"]["spec"]["template"]["metadata"]["labels"]
        assert default["spec"]["podSelector"]["matchLabels"].items() <= labels.items(), "denied by default"
        # Of all tenants alike, so the chart's: the operator has no rights over networks.
        own = policies[labels[label]]
        assert own["egress"] == policies[process]["egress"]
        for callee in ("svc-tenants", "nats", "postgresql"):
            callers = {
                peer["podSelector"]["matchLabels"][label]
                for rule in policies[callee]["ingress"]
                for peer in rule.get("from", [])
                if "podSelector" in peer
            }
            assert {process, labels[label]} <= callers


def test_their_metrics_are_scraped_and_say_whose_they_are(chart) -> None:
    production = chart.template("values-production.yaml", values=PRODUCTION)
    for worker in PROCESSES:
        [service] = chart.of_kind(production, "Service", f"tenant-{worker}")
        [monitor] = chart.of_kind(production, "ServiceMonitor", f"tenant-{worker}")
        assert service["spec"]["clusterIP"] == "None"
        assert monitor["spec"]["podTargetLabels"] == ["aerostic.io/tenant"]


def test_without_them_the_operator_has_neither_templates_nor_rights(chart) -> None:
    objects = chart.template("values-trial.yaml", values={"operator.dedicatedWorkers.enabled": False})
    assert not chart.of_kind(objects, "ConfigMap", "operator")
    assert "AEROSTIC_OPERATOR_WORKERS_FOLDER" not in chart.environment(objects, "operator")
    [role] = chart.of_kind(objects, "Role", "operator")
    assert {resource for rule in role["rules"] for resource in rule["resources"]} == {"leases", "secrets"}
    assert not [each for each in objects if "tenant-" in each["metadata"]["name"]]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"fullnameOverride": "tenant-a"}, "set fullnameOverride"),
        ({"operator.dedicatedWorkers.inbox": {"min": 3, "max": 2}}, "min is greater than max"),
        ({"operator.dedicatedWorkers.inbox": {"min": 0, "max": 2}}, "min"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_installed(chart, values, words) -> None:
    with pytest.raises(chart.Refused, match=words):
        chart.template("values-trial.yaml", values=values)


class TestRights:
    def rules(self, chart, **values):
        """By namespace; "" is everywhere."""
        objects = chart.template("values-trial.yaml", values=values)
        found = {each["metadata"]["namespace"]: each["rules"] for each in chart.of_kind(objects, "Role", "operator")}
        bound = {each["metadata"]["namespace"] for each in chart.of_kind(objects, "RoleBinding", "operator")}
        assert bound == found.keys()
        [everywhere] = chart.of_kind(objects, "ClusterRole", "operator")
        return {"": everywhere["rules"], **found}

    @pytest.fixture
    def given(self, chart):
        return yaml.safe_load((chart.folder / "files" / "operator" / "rules.yaml").read_text(encoding="utf-8"))

    def test_secrets_are_read_where_they_must_be(self, chart, given) -> None:
        usual = self.rules(chart)
        assert usual == {
            "": given["cluster"] + given["tokens"],
            "ns": given["namespace"] + given["workers"] + given["invitations"],
        }
        values = {"operator.invitationsNamespace": "doors", "operator.tokenNamespaces": ["acme", "doors"]}
        assert self.rules(chart, **values) == {
            "": given["cluster"],
            "ns": given["namespace"] + given["workers"],
            "doors": given["invitations"] + given["tokens"],
            "acme": given["tokens"],
        }
        objects = chart.template("values-trial.yaml", values=values)
        assert chart.environment(objects, "operator")["AEROSTIC_OPERATOR_INVITATIONS_NAMESPACE"] == "doors"


@pytest.mark.parametrize("installation", ["trial", "scaled"])
async def test_the_api_server_takes_them_under_the_restricted_standard_and_stores_them_as_wanted(
    kube, templates, installation
) -> None:
    """What it stores is what the operator compares: another spelling would be written again and again."""
    values = {f"processes.messaging-{worker}.autoscaling.enabled": True for worker in PROCESSES}
    found = templates("values-trial.yaml", values=values if installation == "scaled" else None)
    restricted = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    space = await kube.api.create(
        "/api/v1/namespaces", {"metadata": {"generateName": "workers-", "labels": restricted}}
    )
    namespace = space["metadata"]["name"]
    kinds = set()
    for template in found.values():
        for wanted in workers.filled(template, OWNER, TENANT, Size(2, 3)):
            body = {**wanted, "metadata": {**wanted["metadata"], "namespace": namespace}}
            path = f"{children.folder_of(wanted['kind'], namespace)}/{wanted['metadata']['name']}"
            # Its owner is nowhere, so the cluster clears it away soon: the answer is what was stored.
            stored = await kube.api.apply(path, body)
            assert children.is_as_wanted(stored, body), json.dumps(stored)
            kinds.add(wanted["kind"])
    expected = {"Deployment", "PodDisruptionBudget"}
    assert kinds == (expected | {"HorizontalPodAutoscaler"} if installation == "scaled" else expected)


async def test_keda_takes_their_scaled_objects_strictly_and_they_are_stored_as_wanted(kube, templates, absent) -> None:
    try:
        await definitions.install(kube.api)
    except EngineMissing as missing:
        absent(f"NOT TESTED with KEDA's definitions: {missing}")
    space = await kube.api.create("/api/v1/namespaces", {"metadata": {"generateName": "workers-"}})
    namespace = space["metadata"]["name"]
    folder = children.folder_of("ScaledObject", namespace)
    for template in templates("values-production.yaml", values=PRODUCTION).values():
        wanted = made(template, Size(2, 3))["ScaledObject"]
        body = {**wanted, "metadata": {**wanted["metadata"], "namespace": namespace}}
        place = f"{folder}/{wanted['metadata']['name']}"
        # Without Strict, a field that KEDA does not know would be dropped without a word.
        with pytest.raises(ApiError, match="unknown field"):
            await kube.api.create(
                folder, {**body, "spec": {**body["spec"], "minReplicas": 1}}, fieldValidation="Strict"
            )
        stored = await kube.api.create(folder, body, fieldValidation="Strict")
        assert children.is_as_wanted(stored, body), json.dumps(stored)
        await kube.api.delete(place)
        # As the operator writes it.
        stored = await kube.api.apply(place, body)
        assert children.is_as_wanted(stored, body), json.dumps(stored)
        await kube.api.delete(place)
        assert await kube.api.find(place) is None
