"""How tests are spread over workers."""

import os
import subprocess
import sys

import pytest

from devkube.pytest_groups import group_of, next_group

NEIGHBOURS = """
import os
from pathlib import Path
import pytest

@pytest.mark.parametrize("number", range(6))
def test_tells_its_worker(number):
    with Path(os.environ["NOTE"]).open("a") as note:
        note.write(f"{Path(__file__).stem} {os.environ['PYTEST_XDIST_WORKER']}\\n")
"""


@pytest.mark.parametrize(("folders", "workers"), [(("e2e", "chaos"), 1), (("a", "b"), 2)])
def test_modules_stay_on_one_worker_and_all_that_run_the_product_on_the_same(tmp_path, folders, workers):
    for folder in folders:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"test_{folder}.py").write_text(NEIGHBOURS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "devkube.pytest_groups", "-n", "2", "--dist", "loadscope"]
    environment = {**os.environ, "NOTE": str(tmp_path / "note")}
    subprocess.run([*command, str(tmp_path)], env=environment, cwd=tmp_path, check=True)
    told = {tuple(line.split()) for line in (tmp_path / "note").read_text().splitlines()}
    assert len(told) == len(folders), "a module was torn"
    assert len({worker for _, worker in told}) == workers


def test_groups_go_by_path():
    groups = {
        "tests/e2e/test_main_job.py::test_it": "product",
        "tests/chaos/test_storm.py::test_it[a/operator/b]": "product",
        "operator/tests/test_tenants.py::TestLife::test_it": "kube",
        "tests/deploy/test_chart_on_cluster.py::test_it": "kube",
        "tests/deploy/test_chart.py::test_it": "tests/deploy/test_chart.py",
        "kit/tests/test_bus.py::test_it": "kit/tests/test_bus.py",
    }
    assert {nodeid: group_of(nodeid) for nodeid in groups} == groups


def test_what_takes_longest_begins_and_the_control_plane_once_it_is_built():
    assert next_group(["a.py", "kube", "product"], is_kube_built=True) == "product"
    assert next_group(["a.py", "kube"], is_kube_built=True) == "kube"
    assert next_group(["kube", "a.py"], is_kube_built=False) == "a.py"
    assert next_group(["kube"], is_kube_built=False) == "kube"
