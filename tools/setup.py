"""Make the developer environment: `.venv` with the locked dependencies, our rooms importable, the protos built.

Runs on a fresh machine with the standard library alone, and is called by every make target: when nothing has changed
it ends in a moment. Our own rooms are made importable by one .pth file instead of ten editable installs: no build,
no network, no order; what each room declares is proved where it matters, by its image.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
WORK = ROOT / ".aerostic"
LOG = WORK / "setup.log"
LOCKS = [ROOT / "requirements" / "bootstrap.txt", ROOT / "requirements" / "dev.txt"]
ROOMS = [
    "kit/src",
    "gateway/src",
    "svc-auth/src",
    "svc-tenants/src",
    "svc-messaging/src",
    "svc-webhooks/src",
    "meta-emulator/src",
    "operator/src",
    "tools/devstack/src",
    "tools/devkube/src",
    "bench/src",
    "proto/gen",
]
NEEDED_BYTES = 1500 * 1024 * 1024
# What a failed installation says → what it means to the person at the terminal. The first that fits counts.
EXPLANATIONS = {
    ("no space left", "errno 28", "os error 28"): "The disk is full; free some space and run it again.",
    ("hash mismatch", "do not match the hashes", "does not match"): (
        "A downloaded file is not the one that was locked (its hash differs): a broken mirror, or somebody in between."
    ),
    ("resolve host", "name resolution", "connect", "timed out", "unreachable", "dns error", "certificate"): (
        "The package index cannot be reached. Is there a network? A mirror or proxy is set as for pip "
        "(pip config set global.index-url …, HTTPS_PROXY)."
    ),
    ("no matching distribution", "no version of", "no solution found"): "The package index lacks a locked version.",
}


class SetupFailed(Exception):
    """Something is missing on the machine. The text says what to do."""


def main() -> None:
    began = time.monotonic()
    try:
        WORK.mkdir(exist_ok=True)
        with alone():
            installed = install_dependencies()
            built = build_protos()
    except SetupFailed as failure:
        sys.exit(f"setup: {failure}")
    except OSError as failure:
        sys.exit(f"setup: {failure.filename or ROOT}: {failure.strerror}")
    if installed or built:
        say(f"ready after {time.monotonic() - began:.0f} s")


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """One setup at a time: `make up` and `make test` may start together."""
    with (WORK / "setup.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another setup to finish")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def install_dependencies() -> bool:
    """Whether there was anything to do."""
    stamp = VENV / "aerostic.stamp"
    wanted = digest([*LOCKS, Path(__file__)])
    if stamp.exists() and stamp.read_text() == wanted and VENV_PYTHON.exists():
        return False
    if shutil.disk_usage(ROOT).free < NEEDED_BYTES:
        raise SetupFailed(f"The disk has less than {NEEDED_BYTES >> 20} MB free; the environment needs that.")
    make_venv()
    with step("installer (uv)"):
        run_or_explain([*pip_install(), "--requirement", str(LOCKS[0])])
    with step("locked dependencies"):
        install_locked(LOCKS[1])
    packages = run([str(VENV_PYTHON), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip()
    write(Path(packages) / "aerostic-dev.pth", "".join(f"{ROOT / room}\n" for room in ROOMS))
    write(stamp, wanted)
    return True


def make_venv() -> None:
    if venv_works():
        return
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    with step(f"virtual environment with Python {version}.{sys.version_info.micro}"):
        shutil.rmtree(VENV, ignore_errors=True)
        try:
            run([sys.executable, "-m", "venv", str(VENV)])
        except SetupFailed as failure:
            shutil.rmtree(VENV, ignore_errors=True)
            if "ensurepip" in str(failure) or "No module named venv" in str(failure):
                raise SetupFailed(
                    "This Python cannot make virtual environments; on Debian and Ubuntu that is a package of its own: "
                    f"apt install python{version}-venv."
                ) from None
            raise SetupFailed(f"python -m venv failed: {explain(str(failure))}") from None


def venv_works() -> bool:
    """A clone that was moved, or a Python that was removed, leaves one that does not."""
    probe = "import pip, sys; print(sys.version_info >= (3, 11), sys.prefix)"
    try:
        return run([str(VENV_PYTHON), "-c", probe]).split(maxsplit=1) == ["True", f"{VENV}\n"]
    except (SetupFailed, OSError):
        return False


def install_locked(lock: Path) -> None:
    """With uv, in seconds; with pip where uv cannot work with the index in the way pip is configured for it."""
    environment = {**os.environ, **uv_settings(), "UV_HTTP_TIMEOUT": "60", "UV_NO_PROGRESS": "1"}
    uv = [str(VENV_PYTHON), "-m", "uv", "pip", "install", "--python", str(VENV_PYTHON), "--require-hashes"]
    try:
        run([*uv, "--requirement", str(lock)], environment)
    except SetupFailed as failure:
        if "os error 28" in str(failure):
            raise SetupFailed(explain(str(failure))) from None
        say(f"uv could not install: {explain(str(failure))} Trying pip, which takes longer.")
        run_or_explain([*pip_install(), "--requirement", str(lock)])


def uv_settings() -> dict[str, str]:
    """The configuration of pip in uv's words: mirrors and certificates are usually set for pip alone."""
    names = {
        "index-url": "UV_DEFAULT_INDEX",
        "extra-index-url": "UV_INDEX",
        "find-links": "UV_FIND_LINKS",
        "cert": "SSL_CERT_FILE",
        "trusted-host": "UV_INSECURE_HOST",
    }
    settings = {}
    # Lines such as global.index-url='https://…', in rising order of precedence; the environment as :env:.index-url.
    for line in run([str(VENV_PYTHON), "-m", "pip", "config", "list"]).splitlines():
        key, _, value = line.partition("=")
        name = names.get(key.rpartition(".")[2])
        if name and not os.environ.get(name):
            settings[name] = " ".join(value.strip("'\"").replace("\\n", " ").split())
    return settings


def build_protos() -> bool:
    """Whether there was anything to do."""
    sources = sorted((ROOT / "proto").glob("aerostic/**/*.proto"))
    stamp = WORK / "protos.stamp"
    wanted = digest([*sources, ROOT / "tools" / "gen_protos.py", *LOCKS])
    if stamp.exists() and stamp.read_text() == wanted and (ROOT / "proto" / "gen").exists():
        return False
    with step("protos"):
        try:
            run([str(VENV_PYTHON), str(ROOT / "tools" / "gen_protos.py")])
        except SetupFailed as failure:
            raise SetupFailed(f"The protos could not be built:\n{failure}") from None
    write(stamp, wanted)
    return True


def pip_install() -> list[str]:
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input"]
    return [str(VENV_PYTHON), "-m", "pip", "install", *quiet, "--require-hashes"]


def run(command: list[str], environment: Mapping[str, str] | None = None) -> str:
    """The output of a command; it is logged too. When it fails, SetupFailed holds what it said."""
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    with LOG.open("a") as log:
        log.write(f"$ {' '.join(command)}\n{done.stdout}{done.stderr}")
    if done.returncode != 0:
        raise SetupFailed(done.stdout + done.stderr)
    return done.stdout


def run_or_explain(command: list[str]) -> None:
    try:
        run(command)
    except SetupFailed as failure:
        raise SetupFailed(f"{explain(str(failure))}\n  Everything it said: {LOG}") from None


def explain(output: str) -> str:
    """The cause in one line; the last line said, where the cause is new to us."""
    for signs, meaning in EXPLANATIONS.items():
        if any(sign in output.lower() for sign in signs):
            return meaning
    lines = [line for line in output.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it said nothing."


@contextlib.contextmanager
def step(name: str) -> Iterator[None]:
    """Say what happens before it does, and how long it took."""
    began = time.monotonic()
    print(f"setup: {name} …", flush=True)
    yield
    print(f"setup: {name}: {time.monotonic() - began:.0f} s", flush=True)


def say(line: str) -> None:
    print(f"setup: {line}", flush=True)


def digest(paths: Iterable[Path]) -> str:
    """Of the content, so that touching a file, or switching to a branch and back, rebuilds nothing."""
    total = hashlib.sha256(str(ROOT).encode())
    for path in paths:
        total.update(f"{path.relative_to(ROOT)}\0".encode())
        total.update(path.read_bytes())
    return total.hexdigest()


def write(path: Path, text: str) -> None:
    """All or nothing, so that an interrupted setup begins again."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.write_text(text)
    unfinished.replace(path)


if __name__ == "__main__":
    main()
