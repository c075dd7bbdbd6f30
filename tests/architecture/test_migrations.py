"""Migrations only expand: the release before works with the schema that they leave (ADR 0008)."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MIGRATIONS = sorted(ROOT.glob("svc-*/src/*/migrations/versions/*.py"))
# What code of the release before may still read, write or call. Indexes and checks may go: no statement names them.
TAKEN_AWAY = re.compile(
    r"\bDROP\s+(TABLE|VIEW|MATERIALIZED\s+VIEW|COLUMN|FUNCTION|SEQUENCE|TYPE|POLICY|SCHEMA|ROLE)\b"
    r"|\bDROP\s+(?!INDEX|CONSTRAINT|DEFAULT|NOT\s+NULL|EXPRESSION)\w+\s*[,;]"
    r"|\bRENAME\b|\bTRUNCATE\b|\bALTER\s+COLUMN\s+\w+\s+(SET\s+DATA\s+)?TYPE\b|\bSET\s+NOT\s+NULL\b"
    r"|\bDISABLE\s+ROW\b|\bREVOKE\b(?!.*\bFROM\s+PUBLIC\b)",
    re.IGNORECASE | re.DOTALL,
)
DEMANDED = re.compile(r"\bADD\s+COLUMN\b(?=[^,;]*\bNOT\s+NULL\b)(?![^,;]*\b(DEFAULT|GENERATED)\b)", re.IGNORECASE)

MADE = re.compile(r"\bCREATE\s+(?:OR\s+REPLACE\s+)?(?:FUNCTION|POLICY)\s+(\w+)", re.IGNORECASE)
REMADE = re.compile(r"\bDROP\s+(?:FUNCTION|POLICY)\s+(?:IF\s+EXISTS\s+)?(\w+)", re.IGNORECASE)


def statements(path: Path) -> Iterator[str]:
    """Texts of a migration, its documentation left out; what stands in for a value is a word."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documentation = {node.body[0].value for node in ast.walk(tree) if isinstance(node, ast.Module | ast.FunctionDef)
                     and isinstance(node.body[0], ast.Expr)}  # fmt: skip
    inside = {part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "x" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and not {node} & (documentation | inside):
            yield node.value


def unused_since(path: Path) -> str | None:
    """The release that stopped using what a migration takes away, as it says itself."""
    found = re.search(r'^UNUSED_SINCE = "([\d.]+)"$', path.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else None


def offences(texts: Iterable[str]) -> list[str]:
    """Functions and policies may be made anew under their names."""
    known = list(texts)
    made = {found[1] for text in known for found in re.finditer(MADE, text)}
    left = [re.sub(REMADE, lambda found: "" if found[1] in made else found[0], text) for text in known]
    return [found[0] for text in left for rule in (TAKEN_AWAY, DEMANDED) if (found := rule.search(text))]


@pytest.mark.parametrize("path", MIGRATIONS, ids=lambda path: f"{path.parents[2].name}-{path.stem}")
def test_a_migration_takes_nothing_away_that_the_release_before_uses(path: Path) -> None:
    since = unused_since(path)
    if since is None:
        assert offences(statements(path)) == [], "expand, deploy, contract: ADR 0008"
    else:
        assert f"## {since} " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), "name a release that is out"


REFUSED = [
    "DROP TABLE users",
    "ALTER TABLE users DROP COLUMN name",
    "ALTER TABLE users DROP name, ADD x int",
    "alter table users rename to people",
    "ALTER TABLE users RENAME COLUMN name TO title",
    "ALTER TABLE users ALTER COLUMN id TYPE bigint",
    "ALTER TABLE users ALTER COLUMN name SET NOT NULL",
    "ALTER TABLE users ADD COLUMN mood text NOT NULL",
    "REVOKE INSERT ON users FROM auth_app",
    "DROP POLICY own ON users",
]
TAKEN = [
    "CREATE TABLE people (id uuid NOT NULL)",
    "ALTER TABLE users ADD COLUMN mood text NOT NULL DEFAULT 'new'",
    "ALTER TABLE users ADD COLUMN mood text",
    "ALTER TABLE users DROP CONSTRAINT IF EXISTS users_mood",
    "ALTER TABLE users ALTER COLUMN name DROP NOT NULL",
    "DROP INDEX CONCURRENTLY users_by_age",
    "DROP POLICY IF EXISTS own ON users; CREATE POLICY own ON users USING (true)",
    "REVOKE ALL ON FUNCTION first_admins FROM PUBLIC",
]


@pytest.mark.parametrize("text", REFUSED)
def test_what_takes_away_is_noticed(text: str) -> None:
    assert offences([text])


@pytest.mark.parametrize("text", TAKEN)
def test_what_adds_is_taken(text: str) -> None:
    assert not offences([text])


@pytest.mark.parametrize(
    "versions", sorted({path.parent for path in MIGRATIONS}), ids=lambda path: path.parents[1].name
)
def test_revisions_stand_in_a_row_under_their_names(versions: Path) -> None:
    """What a process needs of its database is read from the names."""
    files = sorted(versions.glob("[0-9]*_*.py"))
    assert [path.name[:4] for path in files] == [f"{number:04}" for number in range(1, len(files) + 1)]
    before = None
    for path in files:
        told = {
            node.targets[0].id: ast.literal_eval(node.value)
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
            if node.targets[0].id in {"revision", "down_revision"}
        }
        assert told == {"revision": path.name[:4], "down_revision": before}
        before = path.name[:4]


@pytest.mark.parametrize("module", ["svc_messaging.server.process", "svc_tenants.__main__", "svc_auth.__main__"])
def test_a_process_starts_without_the_tools_of_migrations(module: str) -> None:
    """They take half a second to import, and a process that was killed is missed for as long as its start takes."""
    script = f"import sys, {module}; sys.exit(bool({{'alembic', 'sqlalchemy'}} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=100).returncode == 0
