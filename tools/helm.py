"""The program helm, for `make helm` and the tests: the pinned version, built once from the Go module proxy.

`python tools/helm.py` prints where it is. Go checks every module against the public checksum database, so the version
here is all there is to pin. The program stays in ~/.cache/aerostic (AEROSTIC_CACHE names another folder).
"""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

VERSION = "v4.2.4"
MODULE = "helm.sh/helm/v4/cmd/helm"
SECONDS_MAX = 1800


class HelmMissing(RuntimeError):
    """It is not there and cannot be built here; the text says why."""


def is_built() -> bool:
    return _program().exists()


def path() -> Path:
    """The program; built by the first call on a machine, which takes minutes. Raises HelmMissing."""
    program = _program()
    if program.exists():
        return program
    cache = program.parent
    go = shutil.which("go") or next((str(each) for each in [Path("/usr/local/go/bin/go")] if each.exists()), None)
    if go is None:
        raise HelmMissing(f"helm {VERSION} is not in {cache}, and there is no Go to build it with.")
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "helm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            _build(go, cache, program)
    return program


def _program() -> Path:
    cache = Path(os.environ.get("AEROSTIC_CACHE") or Path.home() / ".cache" / "aerostic")
    return cache / f"helm-{VERSION}"


def _build(go: str, cache: Path, program: Path) -> None:
    unfinished = cache / f"helm-{VERSION}.new"
    environment = {**os.environ, "CGO_ENABLED": "0", "GOBIN": str(unfinished)}
    command = [go, "install", "-trimpath", "-ldflags", "-s -w", f"{MODULE}@{VERSION}"]
    if nice := shutil.which("nice"):
        command = [nice, "-n", "10", *command]
    print(f"helm: building {VERSION} …", file=sys.stderr, flush=True)
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS_MAX
        )
    except subprocess.TimeoutExpired:
        raise HelmMissing(f"helm {VERSION} was not built within {SECONDS_MAX} seconds.") from None
    if done.returncode != 0:
        raise HelmMissing(f"helm {VERSION} could not be built: {done.stderr.strip().splitlines()[-1:]}")
    (unfinished / "helm").rename(program)
    shutil.rmtree(unfinished)


if __name__ == "__main__":
    try:
        print(path())
    except HelmMissing as missing:
        sys.exit(str(missing))
