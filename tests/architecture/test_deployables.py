"""Every deployable of the product has an image, and is in the chart, in both Compose files and in `make up`."""

import json
import re
from pathlib import Path

import pytest
import yaml

from devstack.processes import PROCESSES

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "aerostic"
COMPOSE = ["docker-compose.yml", "docker-compose.prod.yml"]
# Processes that `make up` and Compose have no use for: they live in a cluster.
CLUSTER_ONLY = {"operator"}
# Stands in for Meta, so it has no place in production.
NOT_IN_PRODUCTION = {"meta-emulator"}
NAMES = {process.name for process in PROCESSES}


def rooms() -> set[str]:
    """Rooms with locked dependencies of their own, which is what an image is made from."""
    return {path.stem for path in (ROOT / "requirements").glob("*.txt")} - {"dev", "bootstrap"}


def in_chart() -> dict[str, str]:
    """Process → room."""
    text = (CHART / "templates" / "_processes.tpl").read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z][a-z-]+):\n  room: (\S+)$", text, re.MULTILINE))


def test_every_room_that_ships_runs_somewhere() -> None:
    run = {process.command[0].replace("_", "-") for process in PROCESSES} | CLUSTER_ONLY
    assert rooms() == run


def test_every_process_is_in_the_chart() -> None:
    assert set(in_chart()) == NAMES | CLUSTER_ONLY
    for process in PROCESSES:
        assert in_chart()[process.name] == process.command[0].replace("_", "-")
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    assert set(values["processes"]) == NAMES | CLUSTER_ONLY


@pytest.mark.parametrize("file", COMPOSE)
def test_every_process_is_in_both_compose_files(file) -> None:
    services = set(yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))["services"])
    wanted = NAMES - NOT_IN_PRODUCTION if "prod" in file else NAMES
    assert wanted <= services
    assert {f"migrate-{process.migrates}" for process in PROCESSES if process.migrates} <= services


def alerts() -> list[dict]:
    groups = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def known_metrics() -> set[str]:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| `(aerostic_\w+)` \|", page, re.MULTILINE))


def asked_for(expression: str) -> set[str]:
    return {re.sub(r"_(bucket|count|sum)$", "", name) for name in re.findall(r"aerostic_\w+", expression)}


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_an_alert_asks_for_what_exists_and_has_a_runbook(alert) -> None:
    assert asked_for(alert["expr"]) <= known_metrics()
    assert alert["labels"]["severity"] in {"page", "ticket"}
    assert alert["annotations"]["summary"]
    page = ROOT / alert["annotations"]["runbook_url"]
    assert page.parent == ROOT / "docs" / "runbooks"
    assert page.is_file()
    # Jobs are the names of processes.
    jobs = {name for found in re.findall(r'\bjob=~"([^"]+)"', alert["expr"]) for name in found.split("|")}
    assert jobs <= NAMES


def test_somebody_is_told_of_an_operator_whose_surveys_do_not_succeed() -> None:
    # Nothing else that is measured shows it: it runs, answers scrapes and counts no error.
    asking = [alert for alert in alerts() if "aerostic_operator_surveyed_seconds" in asked_for(alert["expr"])]
    assert [alert["annotations"]["runbook_url"] for alert in asking] == ["docs/runbooks/operator-behind.md"]


def test_alerts_have_names_of_their_own() -> None:
    names = [alert["alert"] for alert in alerts()]
    assert len(names) == len(set(names)) >= 20


@pytest.mark.parametrize(
    "path", sorted((ROOT / "deploy/grafana/dashboards").glob("*.json")), ids=lambda path: path.stem
)
def test_a_dashboard_asks_for_what_exists_at_a_source_that_is_chosen(path) -> None:
    board = json.loads(path.read_text(encoding="utf-8"))
    assert board["uid"] == f"aerostic-{path.stem}"
    assert [each["name"] for each in board["templating"]["list"]] == ["datasource"]
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert len(expressions) >= 10
    assert set().union(*map(asked_for, expressions)) <= known_metrics()
    assert {panel["datasource"]["uid"] for panel in board["panels"]} == {"${datasource}"}
