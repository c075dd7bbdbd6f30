"""What a claim came to: one row of the table, one entry of results.json."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parents[2] / "results.json"


@dataclass(frozen=True, slots=True)
class Row:
    """One figure with what it is held against."""

    claim: str
    measure: str
    value: float
    unit: str
    target: str
    """In words, such as "≥ 0.50 of the reference" or "≤ 25"; empty where a figure is only stated."""
    met: bool | None
    """None where there is no target."""
    reference: float | None = None
    ratio: float | None = None
    details: dict[str, Any] = field(default_factory=dict)


def by_ratio(claim: str, measure: str, unit: str, *, value: float, reference: float, ratio: float, least: float) -> Row:
    """A rate that shall be at least a share of the reference's."""
    target = f"≥ {least:.2f} of the reference"
    return Row(claim, measure, value, unit, target, ratio >= least, reference, ratio)


def at_most(claim: str, measure: str, unit: str, *, value: float, most: float, **details: Any) -> Row:
    return Row(claim, measure, value, unit, f"≤ {most:g}", value <= most, details=details)


def at_least(claim: str, measure: str, unit: str, *, value: float, least: float, **details: Any) -> Row:
    return Row(claim, measure, value, unit, f"≥ {least:g}", value >= least, details=details)


def stated(claim: str, measure: str, unit: str, *, value: float, reference: float | None = None, **details: Any) -> Row:
    ratio = None if reference is None else value / reference
    return Row(claim, measure, value, unit, "", None, reference, ratio, details)


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| claim | measure | value | reference | ratio | target | met |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        met = {True: "yes", False: "**no**", None: ""}[row.met]
        reference = "" if row.reference is None else _number(row.reference)
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        value = f"{_number(row.value)} {row.unit}".strip()
        lines.append(f"| {row.claim} | {row.measure} | {value} | {reference} | {ratio} | {row.target} | {met} |")
    return "\n".join(lines)


def write(claim: str, rows: Sequence[Row], *, file: Path = FILE, quick: bool, load_before: float) -> None:
    """Put a claim's rows into the file, in place of its earlier ones."""
    content = json.loads(file.read_text()) if file.exists() else {}
    content[claim] = {
        "measuredAt": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "cpus": os.cpu_count(),
        "loadAverageBefore": round(load_before, 2),
        "rows": [_rounded(asdict(row)) for row in rows],
    }
    text = json.dumps(dict(sorted(content.items())), indent=2, ensure_ascii=False)
    unfinished = file.with_suffix(".new")
    unfinished.write_text(f"{text}\n")
    unfinished.replace(file)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list | tuple) else value
