"""The Compose files: the whole product, bounded and watched, with nothing open that need not be."""

import json
import re
from pathlib import Path

import pytest
import yaml

from devstack.databases import SERVICES, WITH_WORKER
from devstack.generated import SECRETS
from devstack.processes import PROCESSES
from devstack.settings import SERVICE_KEYS
from kit.provisioning import Plan

ROOT = Path(__file__).resolve().parents[2]
LOCAL, PRODUCTION = ROOT / "docker-compose.yml", ROOT / "docker-compose.prod.yml"
FILES = pytest.mark.parametrize("file", [LOCAL, PRODUCTION], ids=lambda path: path.name)
PLAN = Plan.read(ROOT / "deploy" / "compose" / "secrets.json")
ROOMS = {process.name: process.command[0].replace("_", "-") for process in PROCESSES}


def model(file: Path) -> dict:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def services(file: Path) -> dict[str, dict]:
    return model(file)["services"]


def mounts(service: dict) -> dict[str, str]:
    """Source by target."""
    parts = [re.sub(r"\$\{(\w+):-([^}]*)\}", r"\2", text).split(":") for text in service.get("volumes", [])]
    return {part[1]: part[0] for part in parts}


@FILES
def test_every_process_of_the_product_runs_its_own_command(file) -> None:
    found = services(file)
    for process in PROCESSES:
        if process.name == "meta-emulator" and file == PRODUCTION:
            assert process.name not in found, "the stand-in for Meta has no place in production"
            continue
        service = found[process.name]
        assert f"/{ROOMS[process.name]}:" in service["image"]
        if process.name != "meta-emulator":
            assert service["command"] == list(process.command[1:])
        if process.migrates:
            assert f"/svc-{process.migrates}:" in found[f"migrate-{process.migrates}"]["image"]


@FILES
def test_every_service_is_watched_bounded_and_locked_down(file) -> None:
    for name, service in services(file).items():
        once = service["restart"] == "no"
        check = service["healthcheck"]
        assert check == {"disable": True} if once or name == "jaeger" else check["test"], name
        assert service["mem_limit"], name
        assert service["pids_limit"], name
        assert service["logging"]["options"]["max-size"], name
        assert service["logging"]["options"]["max-file"], name
        assert service["read_only"] is True, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert once or service["cap_drop"] == ["ALL"], name
        assert once or service["restart"] == "unless-stopped", name


@FILES
def test_checks_of_our_processes_ask_the_port_that_they_listen_on(file, tool) -> None:
    doc, readers = tool("settings_doc"), tool("chart_schema").READERS
    for process in PROCESSES:
        if service := services(file).get(process.name):
            port, _, path = str(service["environment"]["AEROSTIC_HEALTH"]).partition("/")
            fields = doc.load(doc.READERS[readers[process.name]]).model_fields
            assert int(port) == (fields["metrics_port"] if "metrics_port" in fields else fields["port"]).default
            assert path == ("healthz" if process.name == "meta-emulator" else "readyz")


@FILES
def test_images_are_pinned(file) -> None:
    for name, service in services(file).items():
        repository, _, tag = service["image"].rpartition(":") if "${" not in service["image"] else ("", "", "")
        if repository:
            assert re.search(r"\d", tag), name
            assert repository.count("/") >= 2, f"{name}: name the registry, so that every engine finds the same image"
        else:
            assert "IMAGE_TAG" in service["image"], name


@FILES
def test_databases_and_services_are_not_published(file) -> None:
    published = {name: service["ports"] for name, service in services(file).items() if "ports" in service}
    if file == PRODUCTION:
        assert published == {"nginx": ["80:80", "443:443"]}
    else:
        assert set(published) == {"gateway", "meta-emulator", "prometheus", "grafana", "jaeger"}
        assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_in_production_only_what_talks_to_the_internet_has_a_way_there() -> None:
    networks = model(PRODUCTION)["networks"]
    assert networks["inside"]["internal"]
    assert networks["edge"]["internal"]
    outward = {name for name, service in services(PRODUCTION).items() if "outside" in service["networks"]}
    assert outward == {"svc-tenants", "messaging-sender", "nginx", "certificates", "certificates-first"}
    edge = {name for name, service in services(PRODUCTION).items() if "edge" in service["networks"]}
    assert edge == {"nginx", "gateway"}
    trusted = services(PRODUCTION)["gateway"]["environment"]["AEROSTIC_GATEWAY_TRUSTED_PROXIES"]
    assert trusted == networks["edge"]["ipam"]["config"][0]["subnet"]


def test_updates_can_run_two_of_a_process_side_by_side() -> None:
    """A published port or a name of its own would forbid a second container."""
    script = (ROOT / "deploy" / "compose" / "update.sh").read_text(encoding="utf-8")
    rolled = re.search(r"for service in (.+); do\n    roll", script)[1].split()
    assert sorted(rolled) == sorted(process.name for process in PROCESSES if process.name != "meta-emulator")
    for name in rolled:
        service = services(PRODUCTION)[name]
        assert not {"container_name", "ports"} & set(service), name


@FILES
def test_nothing_secret_stands_in_the_file_or_in_an_environment(file) -> None:
    for name, service in services(file).items():
        environment = service.get("environment") or {}
        assert isinstance(environment, dict), name
        secret = re.compile(r"(PASSWORD|SECRET|SECRETS|TOKEN|KEY|KEYS|DATABASE_URL|NATS_URL)$")
        assert not [key for key in environment if secret.search(key)], name
        assert not re.search(r"://[^/\s]+:[^/\s]+@", json.dumps(service)), name


@FILES
def test_each_process_reads_its_own_folder_of_secrets_and_finds_all_it_requires_there(file, tool) -> None:
    doc, readers = tool("settings_doc"), tool("chart_schema").READERS
    commands = {**readers, **{f"migrate-{service}": f"svc-{service} migrate" for service in SERVICES}}
    for name, reader in commands.items():
        if not (service := services(file).get(name)):
            continue
        cls = doc.load(doc.READERS[reader])
        required = {doc.variable(cls, field) for field, about in cls.model_fields.items() if about.is_required()}
        assert required <= set(PLAN.folders[name]), name
        if file == PRODUCTION:
            assert mounts(service)["/run/secrets"] == f"/etc/aerostic/secrets/{name}"
        elif name != "meta-emulator":
            assert service["environment"]["AEROSTIC_SECRETS_FOLDER"] == f"/run/aerostic/{name}"


@FILES
def test_no_process_is_given_a_setting_that_it_would_refuse(file, tool) -> None:
    doc, readers = tool("settings_doc"), tool("chart_schema").READERS
    for process in PROCESSES:
        if service := services(file).get(process.name):
            cls = doc.load(doc.READERS[readers[process.name]])
            known = {doc.variable(cls, field) for field in cls.model_fields}
            given = {name for name in service["environment"] if name.startswith(process.prefix)}
            assert given <= known, process.name


def test_the_plan_makes_what_the_stack_makes() -> None:
    people = {name for name in SECRETS if name.startswith(("AEROSTIC_DEMO", "AEROSTIC_SUPER_ADMIN"))}
    assert set(PLAN.make) == set(SECRETS) - people
    assert PLAN.trust == {"AEROSTIC_SERVICE_TRUST": SERVICE_KEYS}
    values = PLAN.complete({})
    assert {name for files in PLAN.folders.values() for name in files.values()} <= set(values)
    roles = {f"{service}_{role}" for service in SERVICES for role in ("owner", "app")}
    roles |= {f"{service}_worker" for service in WITH_WORKER}
    assert set(PLAN.folders["databases"]) == {"superuser", *roles}


@FILES
def test_what_a_file_mounts_is_there(file) -> None:
    sources = {source for service in services(file).values() for source in mounts(service).values()}
    ours = {source for source in sources if source.startswith("./")}
    assert ours
    assert {source for source in ours if not (ROOT / source).exists()} == set()
    if file == LOCAL:
        named = {source for source in sources if not source.startswith((".", "/"))}
        assert named == set(model(file)["volumes"])


@FILES
def test_variables_are_described_in_the_example(file) -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    named = set(re.findall(r"\$\{(\w+)", file.read_text(encoding="utf-8")))
    assert {name for name in named if not re.search(rf"^#?{name}=", example, re.MULTILINE)} == set()


def test_processes_get_the_settings_of_the_whole_that_make_up_gives_them() -> None:
    for process in PROCESSES:
        environment = services(LOCAL)[process.name]["environment"]
        wanted = {name for name in process.environment if not name.endswith(("_PORT", "_STATE_FILE"))}
        assert wanted <= {*environment, *PLAN.folders[process.name]}, process.name


def test_prometheus_scrapes_every_process_under_the_name_that_alerts_use() -> None:
    scrapes = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    ports = {each["job_name"]: each["dns_sd_configs"][0] for each in scrapes}
    assert set(ports) == {process.name for process in PROCESSES if process.name != "meta-emulator"}
    for name, target in ports.items():
        assert target["names"] == [name]
        assert str(services(LOCAL)[name]["environment"]["AEROSTIC_HEALTH"]).startswith(f"{target['port']}/")
