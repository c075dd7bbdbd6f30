"""The house stays small: budgets for files and functions, and no forgotten words."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
PARAMETERS_MAX = 6
ROOMS = [
    "kit",
    "gateway",
    "svc-auth",
    "svc-tenants",
    "svc-messaging",
    "svc-webhooks",
    "meta-emulator",
    "operator",
    "tools",
    "bench",
]

TOOLS = ["tools/devstack", "tools/devkube"]


def sources(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    return [ROOT / line for line in listed if line and (ROOT / line).exists()]


PYTHON = [path for path in sources("*.py") if "/versions/" not in str(path)]
SHIPPED = [path for path in PYTHON if "src" in path.relative_to(ROOT).parts]


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text())
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_no_file_is_longer_than_the_budget() -> None:
    files = [*PYTHON, *sources("*.proto", "*.ts", "*.tsx", "*.js", "*.css")]
    long = {str(path.relative_to(ROOT)): lines for path in files if (lines := count_lines(path)) > FILE_LINES_MAX}
    assert not long


def test_no_function_is_longer_than_the_budget() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{function.lineno} {function.name}"
        for path in SHIPPED
        for function in functions(path)
        if body_lines(function) > FUNCTION_LINES_MAX
    ]
    assert not long


def test_no_function_takes_more_parameters_than_the_budget() -> None:
    wide = [
        f"{path.relative_to(ROOT)}:{function.lineno} {function.name}"
        for path in SHIPPED
        for function in functions(path)
        if len([a for a in function.args.args if a.arg not in {"self", "cls"}]) > PARAMETERS_MAX
    ]
    assert not wide


def test_modules_say_what_they_are() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in SHIPPED
        if path.read_text().strip() and ast.get_docstring(ast.parse(path.read_text())) is None
    ]
    assert not silent


def test_transactions_are_begun_in_one_place() -> None:
    own = re.compile(r"""["'](?:COMMIT|ROLLBACK|BEGIN)\b""")
    offenders = [
        str(path.relative_to(ROOT)) for path in SHIPPED if "svc_" in str(path) and own.search(path.read_text())
    ]
    assert not offenders, "only kit.db begins, commits and rolls back"


def test_every_room_declares_what_it_imports() -> None:
    """A deployable's image installs its own declared dependencies only, so an undeclared import would fail there."""
    import sys
    import tomllib

    named = {
        "google": "googleapis-common-protos",
        "grpc": "grpcio",
        "grpc_health": "grpcio-health-checking",
        "grpc_reflection": "grpcio-reflection",
        "jwt": "pyjwt",
        "nats": "nats-py",
        "xdist": "pytest-xdist",
        "yaml": "pyyaml",
    }
    ours = {
        "kit": "aerostic-kit",
        "aerostic": "aerostic-protos",
        "buf": "aerostic-protos",
        "devstack": "aerostic-devstack",
    }
    missing = []
    for path in SHIPPED:
        room = next(room for room in [*ROOMS, *TOOLS][::-1] if str(path).startswith(f"{ROOT / room}/"))
        folder = ROOT / room
        declared = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["dependencies"]
        names = {re.split(r"[\[<>=~! ]", item)[0].lower() for item in declared}
        if "aerostic-kit" in names:
            names |= kit_dependencies()
        own = {child.name.removesuffix(".py") for child in (folder / "src").iterdir()}
        for top in imported(path) - own - set(sys.stdlib_module_names):
            wanted = named.get(top) or ours.get(top) or top.replace("_", "-")
            if not any(name == wanted.lower() or name.startswith(wanted.lower()) for name in names):
                missing.append(f"{path.relative_to(ROOT)} imports {top}, which {room}/pyproject.toml does not declare")
    assert not missing


def kit_dependencies() -> set[str]:
    import tomllib

    declared = tomllib.loads((ROOT / "kit/pyproject.toml").read_text())["project"]["dependencies"]
    return {re.split(r"[\[<>=~! ]", item)[0].lower() for item in declared}


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


def count_lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (function.end_lineno or function.lineno) - function.body[0].lineno + 1


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_has_tests(room: str) -> None:
    assert sources(f"{room}/**/test_*.py"), f"{room} has no tests"
