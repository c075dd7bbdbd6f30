"""Every metric of every process stands in docs/metrics.md, with its type and its labels as the code has them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "metrics.md"
KINDS = ("Counter", "Gauge", "Histogram", "Summary", "Info", "Enum")


class Metric(NamedTuple):
    """A metric as a scrape shows it."""

    name: str
    kind: str
    labels: frozenset[str]


def sources() -> list[Path]:
    rooms = ["kit", "gateway", "operator", *(path.name for path in ROOT.glob("svc-*"))]
    return [path for room in rooms for path in sorted((ROOT / room / "src").rglob("*.py"))]


def defined_in(path: Path) -> Iterator[Metric]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    constants = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS:
            if not node.args or not isinstance(node.args[0], ast.Constant):
                continue  # collections.Counter
            labels = node.args[2] if len(node.args) > 2 else ast.List([])
            labels = constants[labels.id] if isinstance(labels, ast.Name) else labels
            yield Metric(str(node.args[0].value), node.func.id.lower(), frozenset(ast.literal_eval(labels)))


def defined() -> list[Metric]:
    return [metric for path in sources() for metric in defined_in(path)]


def described() -> list[Metric]:
    rows = re.findall(r"^\| `(aerostic_\w+)` \| (\w+) \|([^|]*)\|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return [Metric(name, kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows]


@pytest.mark.parametrize("metric", defined(), ids=lambda metric: metric.name)
def test_every_metric_stands_on_the_page_as_it_is(metric: Metric) -> None:
    assert metric in described(), "docs/metrics.md must describe it, with its type and labels"


def test_the_page_describes_no_metric_that_is_gone_and_none_twice() -> None:
    names = [metric.name for metric in described()]
    assert len(defined()) >= 30
    assert sorted(names) == sorted({metric.name for metric in defined()})


def test_names_are_ours_and_name_their_unit() -> None:
    for metric in defined():
        assert metric.name.startswith("aerostic_")
        assert (metric.kind == "counter") == metric.name.endswith("_total"), metric.name


def test_expressions_on_the_page_ask_for_metrics_that_exist() -> None:
    known = {metric.name for metric in defined()}
    mentioned = set(re.findall(r"aerostic_[a-z_]+", PAGE.read_text(encoding="utf-8")))
    assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in mentioned} <= known
