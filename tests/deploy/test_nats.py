"""NATS takes the configurations that Compose and the chart give it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kit.provisioning import Plan

pytestmark = pytest.mark.timeout(1800)  # the first run on a machine builds helm

ROOT = Path(__file__).resolve().parents[2]
SERVER = Path(sys.executable).with_name("nats-server")


def opinion(folder: Path) -> subprocess.CompletedProcess:
    environment = {"POD_NAME": "shop-aerostic-nats-0", "PATH": "/usr/bin:/bin"}
    command = [str(SERVER), "--config", str(folder / "nats.conf"), "-t"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_the_configuration_of_compose_is_taken(tmp_path) -> None:
    shutil.copy(ROOT / "deploy" / "nats" / "nats.conf", tmp_path)
    (tmp_path / "secret").mkdir()
    values = Plan.read(ROOT / "deploy" / "compose" / "secrets.json").complete({})
    (tmp_path / "secret" / "nats-accounts.conf").write_text(values["nats-accounts.conf"])
    checked = opinion(tmp_path)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("replicas", [1, 3])
def test_the_configuration_of_the_chart_is_taken(chart, tmp_path, replicas) -> None:
    objects = chart.template("values-trial.yaml", values={"nats.replicas": replicas})
    (configuration,) = chart.of_kind(objects, "ConfigMap", "nats")
    (plan,) = chart.of_kind(objects, "ConfigMap", "make-secrets")
    (tmp_path / "secret").mkdir()
    (tmp_path / "nats.conf").write_text(configuration["data"]["nats.conf"])
    for name, value in Plan(**json.loads(plan["data"]["plan.json"])).complete({}).items():
        if name.endswith(".conf"):
            (tmp_path / "secret" / name).write_text(value)
    checked = opinion(tmp_path)
    assert checked.returncode == 0, checked.stderr
