"""Build the image of every deployable: `make images`, or `python tools/images.py [--base IMAGE] [--tag TAG] [room …]`.

With docker or podman, whichever is there. The rooms are those that have locked dependencies of their own
(requirements/<room>.txt), as each image installs them with their hashes.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = "deploy/images/python.Dockerfile"
REPOSITORY = "aerostic"
VERSION = "0.1.0"
# Locked environments that are no deployables.
_NOT_IMAGES = {"dev", "bootstrap"}


def rooms() -> list[str]:
    """Every room that ships as an image."""
    names = {path.stem for path in (ROOT / "requirements").glob("*.txt")} - _NOT_IMAGES
    return sorted(name for name in names if (ROOT / name / "src").is_dir())


def package(room: str) -> str:
    """The room's import package."""
    found = [path.parent.name for path in (ROOT / room / "src").glob("*/__init__.py")]
    if len(found) != 1:
        sys.exit(f"images: {room}/src must hold one package, not {found}.")
    return found[0]


def command(engine: str, room: str, *, base: str, repository: str, tag: str) -> list[str]:
    """What builds one image."""
    name = f"{repository}/{room}:{tag}"
    arguments = {"ROOM": room, "PACKAGE": package(room), "VERSION": tag, "REVISION": _revision()}
    if base:
        arguments["BASE"] = base
    options = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
    # Podman's own format knows no health checks.
    shape = ["--format", "docker"] if Path(engine).name == "podman" else []
    extra = os.environ.get("AEROSTIC_BUILD_OPTIONS", "").split()
    return [engine, "build", *shape, *extra, "--file", DOCKERFILE, *options, "--tag", name, "."]


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python tools/images.py")
    parser.add_argument("rooms", nargs="*", choices=[[], *rooms()], help="all, if none is named")
    parser.add_argument("--engine", default=os.environ.get("ENGINE", ""), help="docker or podman")
    parser.add_argument("--base", default=os.environ.get("BASE", ""), help="an image with Python 3.11 or later")
    parser.add_argument("--repository", default=os.environ.get("REPOSITORY", "") or REPOSITORY)
    parser.add_argument("--tag", default=os.environ.get("TAG", "") or VERSION)
    given = parser.parse_args(arguments)
    engine = given.engine or _engine()
    if not (ROOT / "proto" / "gen").is_dir():
        sys.exit("images: the contracts are not built; run make protos.")
    for room in given.rooms or rooms():
        build = command(engine, room, base=given.base, repository=given.repository, tag=given.tag)
        print(f"images: {given.repository}/{room}:{given.tag} …", flush=True)
        if subprocess.run(build, cwd=ROOT, check=False).returncode != 0:
            sys.exit(f"images: {room} could not be built: {' '.join(build)}")


def _engine() -> str:
    """Docker where its daemon answers, else podman, which needs none."""
    for name, probe in (("docker", ["docker", "info"]), ("podman", ["podman", "--version"])):
        if shutil.which(name) and subprocess.run(probe, capture_output=True, check=False).returncode == 0:
            return name
    sys.exit("images: neither a running docker nor podman is here.")


def _revision() -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    main(sys.argv[1:])
