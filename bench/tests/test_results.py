"""The table and results.json."""

import json

from bench import results
from bench.__main__ import CLAIMS, LONG
from bench.results import at_least, at_most, by_ratio, stated


def test_a_ratio_below_its_target_is_not_met() -> None:
    row = by_ratio("intake", "webhooks/s", "/s", value=40, reference=100, ratio=0.4, least=0.5)
    assert row.met is False
    assert "**no**" in results.table([row])


def test_targets_include_their_bound() -> None:
    assert at_most("x", "p99", "ms", value=25, most=25).met is True
    assert at_least("x", "share", "", value=0.99, least=0.99).met is True
    assert stated("x", "p99", "ms", value=1).met is None


def test_a_claim_measured_again_replaces_its_own_rows_only(tmp_path) -> None:
    file = tmp_path / "results.json"
    for claim, value in (("a", 1.0), ("b", 2.0), ("a", 3.14159265)):
        rows = [stated(claim, "something", "", value=value)]
        results.write(claim, rows, file=file, quick=True, load_before=0.5)
    content = json.loads(file.read_text())
    assert {claim: entry["rows"][0]["value"] for claim, entry in content.items()} == {"a": 3.142, "b": 2.0}


def test_every_claim_has_its_module() -> None:
    import importlib

    for claim in (*CLAIMS, *LONG):
        assert callable(importlib.import_module(f"bench.claims.{claim.replace('-', '_')}").measure)
