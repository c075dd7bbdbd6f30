"""What the chart makes: safe pods, closed networks, drains in order, nothing that an upgrade would break."""

import re

import pytest
import yaml

from devstack.processes import PROCESSES

pytestmark = pytest.mark.timeout(1800)  # the first run on a machine builds helm

EXISTING = {
    "meta.existingSecret": "meta",
    "postgresql.external.existingSecret": "urls",
    "nats.enabled": False,
    "nats.external.existingSecret": "nats",
}
ROLES_ELSEWHERE = {
    "meta.existingSecret": "meta",
    "postgresql.external.host": "db",
    "postgresql.external.superuserSecret.name": "superuser",
    "gatewayApi.enabled": True,
    "gatewayApi.parentRefs": [{"name": "edge"}],
}
INSTALLATIONS = {
    "trial": (("values-trial.yaml",), {}),
    "production": (("values-production.yaml",), {"postgresql.cloudnativepg.requireOperator": False}),
    "everything external": ((), EXISTING),
    "own secrets and hooks": ((), {**EXISTING, "secrets.existingSecret": "mine", "migrations.hook": True}),
    "roles on a given server": ((), ROLES_ELSEWHERE),
}
PRODUCT = [*(process.name for process in PROCESSES if process.name != "meta-emulator"), "operator"]


@pytest.fixture(params=INSTALLATIONS)
def objects(request, chart) -> list[dict]:
    files, values = INSTALLATIONS[request.param]
    return chart.template(*files, values=values)


@pytest.fixture
def trial(chart) -> list[dict]:
    return chart.template("values-trial.yaml")


@pytest.fixture
def production(chart) -> list[dict]:
    files, values = INSTALLATIONS["production"]
    return chart.template(*files, values=values)


@pytest.mark.parametrize("installation", INSTALLATIONS)
def test_helm_lint_finds_nothing(chart, installation) -> None:
    done = chart.run("lint", "--strict", str(chart.folder), *chart.arguments(*INSTALLATIONS[installation]))
    assert done.returncode == 0, done.stdout


def test_every_process_is_there_and_the_emulator_only_where_it_was_asked_for(chart, objects, trial) -> None:
    names = {each["metadata"]["labels"]["app.kubernetes.io/component"] for each in chart.of_kind(objects, "Deployment")}
    assert set(PRODUCT) <= names
    assert len(chart.of_kind(trial, "Deployment", "meta-emulator")) == 1
    assert not chart.of_kind(chart.template(values=EXISTING), "Deployment", "meta-emulator")


def test_objects_have_names_of_their_own(objects) -> None:
    names = [(each["apiVersion"], each["kind"], each["metadata"]["name"]) for each in objects]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?", name) for _, _, name in names)


def test_pods_keep_to_the_restricted_standard(chart, objects) -> None:
    for name, pod in chart.pods(objects).items():
        security = pod["securityContext"]
        assert security["runAsNonRoot"], name
        assert security["runAsUser"] >= 999, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not any("hostPath" in volume for volume in pod.get("volumes", [])), name
        assert pod["enableServiceLinks"] is False, name
        mounts_token = pod["automountServiceAccountToken"]
        assert mounts_token == ("make-secrets" in name or "operator" in name), name
    for name, container in chart.containers(objects).items():
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False, name
        assert security["readOnlyRootFilesystem"] is True, name
        assert security["capabilities"] == {"drop": ["ALL"]}, name


def test_containers_are_bounded_pinned_and_write_where_they_may(chart, objects) -> None:
    for name, container in chart.containers(objects).items():
        assert container["resources"]["limits"]["memory"], name
        assert container["resources"]["requests"]["cpu"], name
        assert re.search(r":[\w.-]+$|@sha256:", container["image"]), name
        assert not container["image"].endswith(":latest"), name
        variables = [each["name"] for each in container.get("env", [])]
        assert len(variables) == len(set(variables)), name


def test_a_pod_leaves_the_endpoints_first_and_has_time_to_finish(chart, objects) -> None:
    for deployment in chart.of_kind(objects, "Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        # The longest drain of a service is 20 seconds (kit), of HTTP 8; a worker finishes what it has in hand.
        longest = 20 if "grpc" in container["livenessProbe"] else 8
        assert pod["terminationGracePeriodSeconds"] > pause + longest
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)


def test_grpc_services_are_probed_by_grpc_and_found_pod_by_pod(chart, objects) -> None:
    for process in PROCESSES:
        if process.ready == "grpc":
            (deployment,) = chart.of_kind(objects, "Deployment", process.name)
            (container,) = deployment["spec"]["template"]["spec"]["containers"]
            (service,) = chart.of_kind(objects, "Service", process.name)
            port = next(each["containerPort"] for each in container["ports"] if each["name"] == "grpc")
            assert container["readinessProbe"]["grpc"]["port"] == port
            assert service["spec"]["clusterIP"] == "None"


def test_updates_take_no_capacity_away_and_pods_are_spread(chart, objects) -> None:
    for deployment in chart.of_kind(objects, "Deployment"):
        if "meta-emulator" in deployment["metadata"]["name"]:
            continue
        assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
        spread = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
        selectors = [each["labelSelector"]["matchLabels"] for each in spread]
        assert selectors == [deployment["spec"]["selector"]["matchLabels"]] * 2


def test_no_pod_begins_before_its_schema_is_there(chart, objects) -> None:
    for process in PROCESSES:
        if process.migrates or "messaging-migrations" in process.needs:
            (deployment,) = chart.of_kind(objects, "Deployment", process.name)
            (gate,) = deployment["spec"]["template"]["spec"]["initContainers"]
            assert gate["command"][:3] == ["python", "-m", "kit.migrations.gate"]
            assert gate["command"][4] in process.environment
            assert [each["name"] for each in gate["env"]] == [gate["command"][4]]


def test_migrations_of_every_service_run_in_a_job_of_this_revision(chart, trial) -> None:
    (job,) = chart.of_kind(trial, "Job", "migrate")
    pod = job["spec"]["template"]["spec"]
    ran = [each["name"] for each in [*pod["initContainers"], *pod["containers"]]]
    assert ran == ["roles-auth", "roles-messaging", "roles-tenants", "auth", "tenants", "messaging"]
    upgraded = chart.template("values-trial.yaml", options=("--is-upgrade",), values={"image.tag": "9.9.9"})
    (next_job,) = chart.of_kind(upgraded, "Job", "migrate")
    assert next_job["metadata"]["name"] != job["metadata"]["name"]


def test_an_upgrade_leaves_what_cannot_be_changed(chart) -> None:
    before = chart.template("values-trial.yaml")
    after = chart.template("values-trial.yaml", values={"image.tag": "9.9.9", "commonLabels": {"team": "a"}})
    for kind in ("Deployment", "StatefulSet"):
        for old, new in zip(chart.of_kind(before, kind), chart.of_kind(after, kind), strict=True):
            assert old["spec"]["selector"] == new["spec"]["selector"]
            assert old["spec"].get("volumeClaimTemplates") == new["spec"].get("volumeClaimTemplates")
            assert old["spec"].get("serviceName") == new["spec"].get("serviceName")


def annotations(chart, kind: str, values: dict) -> dict[str, dict]:
    objects = chart.template("values-trial.yaml", values=values)
    return {
        each["metadata"]["labels"]["app.kubernetes.io/component"]: each["spec"]["template"]["metadata"]["annotations"]
        for each in chart.of_kind(objects, kind)
        if "annotations" in each["spec"]["template"]["metadata"]
    }


def test_whoever_verifies_callers_starts_anew_with_another_list_and_not_for_an_operator_that_comes_later(chart) -> None:
    later = annotations(chart, "Deployment", {"operator.enabled": True})
    trial = chart.template("values-trial.yaml")
    verifying = {name for name in later if "AEROSTIC_SERVICE_TRUST" in chart.environment(trial, name)}
    assert {"svc-auth", "svc-tenants", "gateway"} <= verifying
    assert {name for name in later if "aerostic.io/trusted-processes" in later[name]} == verifying
    without = annotations(chart, "Deployment", {"operator.enabled": False})
    assert {name: later[name] for name in without} == without
    assert annotations(chart, "Deployment", {"operator.enabled": True, "image.tag": "9.9.9"}) == later


def test_nats_starts_anew_with_its_configuration_and_not_without_a_change(chart) -> None:
    before = annotations(chart, "StatefulSet", {})
    changed = annotations(chart, "StatefulSet", {"nats.fileStore": "7GB"})
    assert before["nats"] != changed["nats"]
    assert before["nats"] == annotations(chart, "StatefulSet", {"image.tag": "9.9.9"})["nats"]


def test_scaled_deployments_leave_their_replicas_to_the_scaler(chart, production) -> None:
    targets = [
        each["spec"]["scaleTargetRef"]["name"]
        for kind in ("HorizontalPodAutoscaler", "ScaledObject")
        for each in chart.of_kind(production, kind)
    ]
    assert len(targets) == len(set(targets)) == len(PRODUCT) - 1
    for deployment in chart.of_kind(production, "Deployment"):
        assert ("replicas" in deployment["spec"]) == (deployment["metadata"]["name"] not in targets)


def test_lag_of_every_partition_counts_once(chart, production) -> None:
    (scaler,) = chart.of_kind(production, "ScaledObject", "messaging-inbox")
    consumers = [trigger["metadata"]["consumer"] for trigger in scaler["spec"]["triggers"]]
    assert consumers == [f"inbox-{number}" for number in range(4)]
    assert scaler["spec"]["advanced"]["scalingModifiers"]["formula"] == "p0 + p1 + p2 + p3"
    (sender,) = chart.of_kind(production, "ScaledObject", "messaging-sender")
    lags = [trigger for trigger in sender["spec"]["triggers"] if trigger["type"] == "nats-jetstream"]
    assert len({trigger["metadata"]["consumer"] for trigger in lags}) == len(lags) == 16


def test_several_replicas_have_a_disruption_budget_and_one_has_none(chart, trial, production) -> None:
    assert not chart.of_kind(trial, "PodDisruptionBudget")
    budgets = chart.of_kind(production, "PodDisruptionBudget")
    assert len(budgets) == len(PRODUCT) + 1
    assert {each["spec"]["maxUnavailable"] for each in budgets} == {1}


def test_nats_promises_what_the_product_builds_on(chart, objects) -> None:
    for server in chart.of_kind(objects, "StatefulSet", "nats"):
        (configuration,) = chart.of_kind(objects, "ConfigMap", "nats")
        text = configuration["data"]["nats.conf"]
        assert "sync_interval: always" in text
        assert "max_payload: 8388608" in text
        duck = int(re.search(r"lame_duck_duration: (\d+)s", text)[1])
        pod = server["spec"]["template"]["spec"]
        assert pod["terminationGracePeriodSeconds"] >= duck + 20
        assert pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1].startswith("-sl=ldm=")
        assert "password" not in text


def test_a_cluster_of_nats_replicates_every_stream(chart, production) -> None:
    (server,) = chart.of_kind(production, "StatefulSet", "nats")
    assert server["spec"]["replicas"] == 3
    for process in PROCESSES:
        if process.shared:
            assert chart.environment(production, process.name)["AEROSTIC_STREAM_REPLICAS"] == "3"


def test_copies_of_the_streams_outlive_the_release_and_never_run_twice_at_once(chart, production) -> None:
    (cron,) = chart.of_kind(production, "CronJob")
    assert cron["spec"]["concurrencyPolicy"] == "Forbid"
    (claim,) = chart.of_kind(production, "PersistentVolumeClaim")
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    volumes = chart.pods([cron])["CronJob/shop-aerostic-backup-streams"]["volumes"]
    assert volumes[0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    mine = {**EXISTING, "nats.backup.enabled": True, "nats.backup.existingClaim": "mine"}
    assert not chart.of_kind(chart.template(values=mine), "PersistentVolumeClaim")


def test_tenants_are_protected_from_a_slip_of_the_hand(chart, production) -> None:
    assert len(chart.of_kind(production, "ValidatingAdmissionPolicy")) == 1
    assert len(chart.of_kind(production, "ValidatingAdmissionPolicyBinding")) == 1


def test_alerts_and_dashboards_are_those_of_the_repository(chart, production) -> None:
    (rule,) = chart.of_kind(production, "PrometheusRule")
    assert sum(len(group["rules"]) for group in rule["spec"]["groups"]) >= 20
    elsewhere = {**INSTALLATIONS["production"][1], "monitoring.rules.runbooks": "https://runbooks.example/"}
    (linked,) = chart.of_kind(chart.template("values-production.yaml", values=elsewhere), "PrometheusRule")
    urls = re.findall(r"runbook_url: (\S+)", yaml.safe_dump(linked))
    assert all(re.fullmatch(r"https://runbooks\.example/[a-z-]+\.md", url) for url in urls)
    # Of every process, and of the two kinds of workers that tenants may have.
    assert len(chart.of_kind(production, "ServiceMonitor")) == len(PRODUCT) + 2
    assert len(chart.of_kind(production, "ConfigMap", "monitoring")) >= 2
