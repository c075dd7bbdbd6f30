"""The chart, rendered; programs that a machine may lack are told of loudly, and in CI their absence is a failure."""

import functools
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "aerostic"
_SECONDS = 100
_COMPONENT = "app.kubernetes.io/component"


class Refused(Exception):
    """Helm's own words."""


class Chart:
    """Renders a release `shop` in namespace `ns`, and looks through what came out."""

    Refused = Refused
    folder = CHART

    def __init__(self, helm: Path) -> None:
        self.program = helm
        self._render = functools.lru_cache(maxsize=64)(self._render_once)

    def run(self, *arguments: str) -> subprocess.CompletedProcess:
        command = [str(self.program), *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=_SECONDS)

    def template(self, *files: str, values: dict | None = None, options: tuple[str, ...] = ()) -> list[dict]:
        """`files`: of the chart's folder; `values`: path with dots → value. Raises Refused."""
        return json.loads(self._render(files, json.dumps(values or {}), options))

    def _render_once(self, files: tuple[str, ...], values: str, options: tuple[str, ...]) -> str:
        arguments = [*self.arguments(files, json.loads(values)), *options]
        done = self.run("template", "shop", str(CHART), "--namespace", "ns", *arguments)
        if done.returncode != 0:
            raise Refused(done.stderr)
        return json.dumps([each for each in yaml.load_all(done.stdout, yaml.CSafeLoader) if each])

    @staticmethod
    def arguments(files: tuple[str, ...], values: dict) -> list[str]:
        given = [("--set-json", f"{key}={json.dumps(value)}") for key, value in values.items()]
        return [word for pair in [*(("--values", str(CHART / file)) for file in files), *given] for word in pair]

    @staticmethod
    def of_kind(objects: list[dict], kind: str, component: str | None = None) -> list[dict]:
        found = [each for each in objects if each["kind"] == kind]
        return [each for each in found if component in {None, each["metadata"].get("labels", {}).get(_COMPONENT)}]

    @staticmethod
    def pods(objects: list[dict]) -> dict[str, dict]:
        """Pod specifications by kind and name of what makes them."""
        found = {}
        for each in objects:
            name = f"{each['kind']}/{each['metadata']['name']}"
            spec = each.get("spec", {})
            template = spec.get("jobTemplate", {"spec": spec}).get("spec", {}).get("template", {})
            if each["kind"] == "Pod":
                found[name] = each["spec"]
            elif isinstance(template, dict) and "containers" in template.get("spec", {}):
                found[name] = template["spec"]
        return found

    @classmethod
    def containers(cls, objects: list[dict]) -> dict[str, dict]:
        """By pod and name, those that run before the others included."""
        return {
            f"{name}/{container['name']}": container
            for name, pod in cls.pods(objects).items()
            for container in [*pod.get("initContainers", []), *pod["containers"]]
        }

    @classmethod
    def environment(cls, objects: list[dict], process: str) -> dict[str, Any]:
        """Of a process: setting → text, or its source."""
        (deployment,) = cls.of_kind(objects, "Deployment", process)
        variables = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
        return {each["name"]: each.get("value", each.get("valueFrom")) for each in variables}


def _load_tool(name: str) -> Any:
    # Tools find each other as scripts do, in their own folder.
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(ROOT / "tools"))
    return module


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Build helm beside other tests on a machine that has none; the fixture waits for it, and says what went wrong."""
    helm = _load_tool("helm")
    if any("chart" in getattr(item, "fixturenames", ()) for item in items) and not helm.is_built():
        quiet = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1, 2)]
        command = [sys.executable, str(ROOT / "tools" / "helm.py")]
        os.posix_spawn(sys.executable, command, os.environ, file_actions=quiet)


@pytest.fixture(scope="session")
def tool():
    """A module of tools/ by its name."""
    return functools.cache(_load_tool)


@pytest.fixture(scope="session")
def absent():
    """Say that a program is not here: a skip that shows in the summary, a failure in CI."""

    def say(what: str) -> None:
        if os.environ.get("CI"):
            pytest.fail(what)
        pytest.skip(what)

    return say


@pytest.fixture(scope="session")
def chart(tool, absent) -> Chart:
    helm = tool("helm")
    try:
        return Chart(helm.path())
    except helm.HelmMissing as missing:
        absent(str(missing))
