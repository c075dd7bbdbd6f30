"""Runbooks speak of log lines, codes, settings and metrics that exist, and links between documents lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
RUNBOOKS = sorted((DOCS / "runbooks").glob("*.md"))
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
PARTS = ("**Symptom**", "**What the product does**", "**What you do**", "**It is over when**")
# PostgreSQL's own words.
FOREIGN = {"max_connections", "pg_stat_activity", "pg_locks", "pg_terminate_backend", "pg_wal", "application_name",
           "xact_start", "max_payload"}  # fmt: skip


@pytest.fixture(scope="module")
def code() -> str:
    """All that the product is made of, as text."""
    rooms = ["kit", "gateway", "operator", *(path.name for path in ROOT.glob("svc-*"))]
    files = [path for room in rooms for path in (ROOT / room / "src").rglob("*.py")]
    files += [*(ROOT / "proto").rglob("*.proto"), DOCS / "settings.md"]
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


@pytest.mark.parametrize("page", RUNBOOKS, ids=lambda page: page.stem)
def test_what_a_runbook_names_exists(page: Path, code: str) -> None:
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+|[A-Z]+(?:_[A-Z]+)+)`", page.read_text(encoding="utf-8")))
    metrics = set(re.findall(r"aerostic_[a-z_]+", page.read_text(encoding="utf-8")))
    words = {re.sub(r"^(aerostic_\w+?)_(bucket|count|sum)$", r"\1", name) for name in named | metrics}
    assert {name for name in words - FOREIGN if not re.search(rf"\b(ERROR_REASON_)?{name}\b", code)} == set()


@pytest.mark.parametrize("page", [page for page in RUNBOOKS if page.stem != "README"], ids=lambda page: page.stem)
def test_a_runbook_has_its_four_parts_and_stands_in_the_list(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    places = [text.find(part) for part in PARTS]
    assert -1 not in places
    assert places == sorted(places)
    assert f"({page.name})" in (page.parent / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []
