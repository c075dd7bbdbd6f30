"""The control plane's programs: one test binary of the Go module in `engine/`, built once per machine.

It lies in the user's cache folder under the hash of its sources, so that a fresh clone finds what another one built.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "engine"
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")

_GO_PLACES = ("/usr/local/go/bin/go", "/usr/lib/go/bin/go")
_VERSION = "k8s.io/component-base/version"
# Each of the two compilers takes up to two gigabytes; more of them at once would not fit a small machine.
_COMPILERS = "2"


class EngineMissing(RuntimeError):
    """The programs cannot be had on this machine: no Go, or no modules. The text says which."""


class BuildFailed(RuntimeError):
    """Go and the modules are there, and the build fails all the same."""


def folder() -> Path:
    """Where the programs are, or will be."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "aerostic" / f"devkube-{_fingerprint()}"


def is_built() -> bool:
    return all((folder() / name).exists() for name in PROGRAMS)


def build() -> Path:
    """Build the programs unless they are there; waits for another build that is under way. Takes minutes, once.

    Raises EngineMissing and BuildFailed.
    """
    place = folder()
    if is_built():
        return place
    go = go_program()
    place.mkdir(parents=True, exist_ok=True)
    with _alone(place):
        if is_built():
            return place
        _require_modules(go)
        unfinished = place / "programs.new"
        flags = f"-s -w {_version_flags()}"
        _run(
            *(shutil.which("nice") or "nice", "-n", "10"),
            *(go, "test", "-c", "-vet=off", "-trimpath", "-p", _COMPILERS, "-ldflags", flags, "-o", str(unfinished)),
            error=BuildFailed,
        )
        binary = unfinished.rename(place / "programs")
        for name in PROGRAMS:
            link = place / name
            link.unlink(missing_ok=True)
            link.symlink_to(binary.name)
    return place


def _fingerprint() -> str:
    total = hashlib.sha256()
    for path in sorted(SOURCE.iterdir()):
        total.update(f"{path.name}\0".encode())
        total.update(path.read_bytes())
    return total.hexdigest()[:16]


def _version_flags() -> str:
    """What the API server says of itself; clients and charts refuse one that does not know its version."""
    found = re.search(r"k8s\.io/kubernetes v((\d+)\.(\d+)\.\d+)", (SOURCE / "go.mod").read_text(encoding="utf-8"))
    assert found is not None, "go.mod requires k8s.io/kubernetes"
    values = {"gitVersion": f"v{found[1]}", "gitMajor": found[2], "gitMinor": found[3], "gitTreeState": "clean"}
    return " ".join(f"-X {_VERSION}.{name}={value}" for name, value in values.items())


def go_program() -> str:
    """Where Go is. Raises EngineMissing."""
    found = shutil.which("go") or next((place for place in _GO_PLACES if Path(place).exists()), None)
    if found is None:
        raise EngineMissing("Go is not installed, so no Kubernetes control plane can be built.")
    return found


def _require_modules(go: str) -> None:
    """Raises EngineMissing where Go is too old, or where modules cannot be fetched."""
    _run(go, "list", "-test", "-deps", ".", error=EngineMissing)


def _run(*command: str, error: type[RuntimeError]) -> None:
    done = subprocess.run(
        command,
        cwd=SOURCE,
        env=_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise error(f"The Kubernetes control plane cannot be built:\n{done.stderr[-2000:].strip()}")


def _environment() -> Mapping[str, str]:
    # The Go of this machine and no other, and exactly the versions that go.sum names.
    return {**os.environ, "GOTOOLCHAIN": "local", "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false"}


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    with (place / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
