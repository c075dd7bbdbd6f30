"""What the chart takes: every setting of the product, secrets from where they are, and no mistakes."""

import json
import re
from pathlib import Path

import pytest

from devstack.databases import SERVICES, WITH_WORKER
from devstack.generated import SECRETS
from devstack.processes import PROCESSES
from devstack.settings import SERVICE_KEYS
from kit.provisioning import Plan

pytestmark = pytest.mark.timeout(1800)  # the first run on a machine builds helm

ROOT = Path(__file__).resolve().parents[2]
TRIAL = ("values-trial.yaml",)


def test_the_schema_is_current(tool) -> None:
    schema = tool("chart_schema")
    assert schema.SCHEMA.read_text(encoding="utf-8") == schema.text(), "run `make docs`"


MISTAKES = [
    ({"gatway": {}}, "gatway"),
    ({"processes.gateway.settings": {"AEROSTIC_GATEWAY_DRIAN_SECONDS": 3}}, "AEROSTIC_GATEWAY_DRIAN_SECONDS"),
    ({"processes.svc-auth.settings": {"AEROSTIC_AUTH_BCRYPT_COST": 3}}, "AEROSTIC_AUTH_BCRYPT_COST"),
    ({"processes.svc-auth.settings": {"AEROSTIC_GATEWAY_BODY_SECONDS": 3}}, "AEROSTIC_GATEWAY_BODY_SECONDS"),
    ({"settings": {"AEROSTIC_LOG_LEVEL": "loud"}}, "AEROSTIC_LOG_LEVEL"),
    ({"settings": {"AEROSTIC_NATS_URL": "nats://u:p@h"}}, "AEROSTIC_NATS_URL"),
    ({"settings": {"AEROSTIC_SERVICE_KEY": "x"}}, "AEROSTIC_SERVICE_KEY"),
    ({"processes.gateway.replicas": "two"}, "replicas"),
    ({"image.tag": "latest"}, "tag"),
    ({"nats.image": "nats"}, "image"),
    ({"nats.replicas": 2}, "replicas"),
    ({"nats.lameDuckSeconds": 5}, "lameDuckSeconds"),
    ({"postgresql.mode": "sqlite"}, "mode"),
    ({"service.type": "ExternalName"}, "type"),
    ({"meta.appId": "my app"}, "appId"),
]


@pytest.mark.parametrize(("values", "named"), MISTAKES, ids=lambda each: each if isinstance(each, str) else "")
def test_a_mistake_is_refused_and_named(chart, values, named) -> None:
    with pytest.raises(chart.Refused, match=named):
        chart.template(*TRIAL, values=values)


INCOMPLETE = [
    ({"emulator.enabled": False}, "meta.existingSecret"),
    ({"postgresql.mode": "external"}, "external.existingSecret"),
    ({"nats.enabled": False}, "nats.external.existingSecret"),
    ({"postgresql.mode": "cloudnativepg"}, "CloudNativePG operator"),
    ({"migrations.hook": True}, "migrations.hook"),
    ({"ingress.enabled": True}, "ingress.host"),
    ({"gatewayApi.enabled": True}, "gatewayApi.parentRefs"),
    (
        {
            "processes.messaging-inbox.keda": {"enabled": True, "min": 1, "max": 2, "lagPerReplica": 1},
            "processes.messaging-inbox.autoscaling": {"enabled": True, "min": 1, "max": 2, "cpuPercent": 70},
        },
        "enable one",
    ),
]


@pytest.mark.parametrize(("values", "told"), INCOMPLETE, ids=lambda each: each if isinstance(each, str) else "")
def test_what_does_not_fit_together_is_told_before_anything_is_installed(chart, values, told) -> None:
    with pytest.raises(chart.Refused, match=re.escape(told)):
        chart.template(*TRIAL, values=values)


NOT_IN_VALUES = {
    "AEROSTIC_SECRETS_FOLDER",  # files of secrets are for Compose
    "AEROSTIC_EMULATOR_STATE_FILE",  # a pod of the emulator has no disk to remember on
    "AEROSTIC_OPERATOR_IDENTITY",  # a pod's name is its own
    "AEROSTIC_MESSAGING_TENANT",  # workers of one tenant are made by the operator, from its Tenant
}


def test_every_setting_of_every_process_is_set_by_the_chart_or_by_its_values(chart, tool) -> None:
    schema, doc = tool("chart_schema"), tool("settings_doc")
    objects = chart.template(*TRIAL)
    assert set(schema.READERS) == {*(process.name for process in PROCESSES), "operator"}
    for process, reader in schema.READERS.items():
        cls = doc.load(doc.READERS[reader])
        offered = schema.settings(reader)
        environment = chart.environment(objects, process)
        names = {doc.variable(cls, name) for name in cls.model_fields}
        unreachable = names - set(offered) - set(environment)
        assert unreachable <= NOT_IN_VALUES, process
        unknown = {name for name in environment if name not in names}
        assert not unknown, process


def test_a_setting_reaches_its_process_as_it_was_written(chart) -> None:
    values = {
        "settings": {"AEROSTIC_LOG_LEVEL": "debug", "AEROSTIC_META_BYTES_MAX": 40_000_000_000},
        "processes.gateway.settings": {
            "AEROSTIC_LOG_LEVEL": "error",
            "AEROSTIC_GATEWAY_ALLOWED_ORIGINS": "https://a.example",
        },
        "processes.svc-auth.settings": {"AEROSTIC_AUTH_SESSION_DAYS": 0.5, "AEROSTIC_AUTH_REFLECTION": True},
        "processes.meta-emulator.settings": {"AEROSTIC_EMULATOR_READ_DELAY_SECONDS": [1, 2.5]},
    }
    objects = chart.template(*TRIAL, values=values)
    gateway, auth = chart.environment(objects, "gateway"), chart.environment(objects, "svc-auth")
    assert gateway["AEROSTIC_LOG_LEVEL"] == "error"
    assert gateway["AEROSTIC_GATEWAY_ALLOWED_ORIGINS"] == "https://a.example"
    assert auth["AEROSTIC_LOG_LEVEL"] == "debug"
    assert auth["AEROSTIC_META_BYTES_MAX"] == "40000000000"
    assert auth["AEROSTIC_AUTH_SESSION_DAYS"] == "0.5"
    assert auth["AEROSTIC_AUTH_REFLECTION"] == "true"
    emulator = chart.environment(objects, "meta-emulator")
    assert json.loads(emulator["AEROSTIC_EMULATOR_READ_DELAY_SECONDS"]) == [1, 2.5]
    assert "AEROSTIC_LOG_LEVEL" not in emulator


def test_processes_get_what_they_get_from_make_up(chart) -> None:
    objects = chart.template(*TRIAL)
    for process in PROCESSES:
        environment = chart.environment(objects, process.name)
        wanted = {*process.environment, *(["AEROSTIC_SERVICE_KEY"] if process.name in SERVICE_KEYS else [])}
        assert wanted - set(environment) <= {"AEROSTIC_EMULATOR_STATE_FILE"}, process.name


def plan_of(chart, objects) -> Plan:
    (configuration,) = chart.of_kind(objects, "ConfigMap", "make-secrets")
    return Plan(**json.loads(configuration["data"]["plan.json"]))


def test_the_made_secret_has_every_entry_that_a_pod_asks_for(chart) -> None:
    for replicas in (1, 3):
        objects = chart.template(*TRIAL, values={"nats.replicas": replicas})
        made = set(plan_of(chart, objects).complete({}))
        sources = [
            each["valueFrom"]["secretKeyRef"]
            for container in chart.containers(objects).values()
            for each in container.get("env", [])
            if "secretKeyRef" in each.get("valueFrom", {})
        ]
        assert {source["name"] for source in sources} == {"shop-aerostic-secrets"}
        asked = {source["key"] for source in sources}
        asked |= {
            item["key"]
            for pod in chart.pods(objects).values()
            for volume in pod.get("volumes", [])
            for item in volume.get("secret", {}).get("items", [])
        }
        assert asked == made - {"AEROSTIC_NATS_PASSWORD"}


def test_an_operator_that_is_switched_on_later_is_trusted_from_the_beginning(chart) -> None:
    """Services read whom they trust at their start, and nothing restarts them for it."""
    before = chart.template(*TRIAL, values={"operator.enabled": False})
    assert not chart.of_kind(before, "Deployment", "operator")
    assert plan_of(chart, before) == plan_of(chart, chart.template(*TRIAL))


def test_secrets_are_those_of_the_stack_and_urls_lead_to_this_release(chart) -> None:
    plan = plan_of(chart, chart.template(*TRIAL))
    people = {name for name in SECRETS if name.startswith(("AEROSTIC_DEMO", "AEROSTIC_SUPER_ADMIN"))}
    # The operator runs in clusters only.
    assert set(plan.make) == (set(SECRETS) - people) | {"AEROSTIC_OPERATOR_SERVICE_KEY"}
    assert plan.trust["AEROSTIC_SERVICE_TRUST"] == {**SERVICE_KEYS, "operator": "AEROSTIC_OPERATOR_SERVICE_KEY"}
    values = plan.complete({})
    for service in SERVICES:
        roles = ["app", "owner", *(["worker"] if service in WITH_WORKER else [])]
        for role in roles:
            name = f"AEROSTIC_{service.upper()}_{'' if role == 'app' else f'{role.upper()}_'}DATABASE_URL"
            assert re.fullmatch(
                rf"postgresql://{service}_{role}:[\w-]+@shop-aerostic-postgresql:5432/{service}", values[name]
            )


def test_the_job_that_makes_secrets_may_do_nothing_else(chart) -> None:
    (role,) = chart.of_kind(chart.template(*TRIAL), "Role", "make-secrets")
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]},
        {
            "apiGroups": [""],
            "resources": ["secrets"],
            "resourceNames": ["shop-aerostic-secrets"],
            "verbs": ["get", "patch"],
        },
    ]


def test_no_template_holds_a_secret_so_upgrades_and_gitops_change_none(chart) -> None:
    assert not chart.of_kind(chart.template(*TRIAL), "Secret")
    assert chart.template(*TRIAL) == chart.template(*TRIAL, options=("--is-upgrade",))


def test_secrets_that_a_person_brings_go_first(chart) -> None:
    values = {
        "meta.existingSecret": "meta",
        "postgresql.external.existingSecret": "urls",
        "nats.enabled": False,
        "nats.external.existingSecret": "bus",
    }
    objects = chart.template(values=values)
    tenants = chart.environment(objects, "svc-tenants")
    named = {setting: source["secretKeyRef"]["name"] for setting, source in tenants.items() if isinstance(source, dict)}
    assert named == {
        "AEROSTIC_TENANTS_DATABASE_URL": "urls",
        "AEROSTIC_TENANTS_APP_SECRET": "meta",
        "AEROSTIC_NATS_URL": "bus",
        "AEROSTIC_TENANTS_KEY_ENCRYPTION_KEYS": "shop-aerostic-secrets",
        "AEROSTIC_SERVICE_KEY": "shop-aerostic-secrets",
        "AEROSTIC_SERVICE_TRUST": "shop-aerostic-secrets",
    }
    plan = plan_of(chart, objects)
    assert not plan.compose
    assert all("KEY" in name for name in plan.make)
    mine = chart.template(values={**values, "secrets.existingSecret": "mine"})
    assert not chart.of_kind(mine, "Job", "make-secrets")
