"""Lock every deployable's dependencies, with hashes and without registry addresses.

`requirements/dev.txt` holds the developer environment (all rooms and the tools). Each deployable gets its own
`requirements/<room>.txt` with the same versions, for its image. Run by `make lock`.
"""

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "requirements"
DEPLOYABLES = ["gateway", "svc-auth", "svc-tenants", "svc-messaging", "svc-webhooks", "meta-emulator", "operator"]
ROOMS = ["proto", "kit", *DEPLOYABLES, "tools/devstack", "tools/devkube", "bench"]

OURS = {"aerostic-protos": "proto", "aerostic-kit": "kit", "aerostic-devstack": "tools/devstack"}


def declared(room: str) -> list[str]:
    """Third-party requirements of a room, those of our own rooms it needs included."""
    project = tomllib.loads((ROOT / room / "pyproject.toml").read_text())["project"]
    needs: list[str] = []
    for requirement in project["dependencies"]:
        if requirement.startswith("aerostic-"):
            needs += declared(OURS[requirement])
        else:
            needs.append(requirement)
    return sorted(set(needs))


def compile_lock(requirements: list[str], output: Path, *, constraint: Path | None) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".in") as source:
        source.write("\n".join(requirements))
        source.flush()
        command = [
            *(sys.executable, "-m", "uv", "pip", "compile", source.name, "--output-file", str(output), "--quiet"),
            *("--universal", "--python-version", "3.11", "--generate-hashes", "--no-emit-index-url"),
            *("--no-emit-find-links", "--no-header", "--no-annotate"),
        ]
        if constraint is not None:
            command += ["--constraint", str(constraint)]
        subprocess.run(command, check=True)


def main() -> None:
    tools = (LOCKS / "dev.in").read_text().splitlines()
    everything = {name for room in ROOMS for name in declared(room)}
    dev = LOCKS / "dev.txt"
    compile_lock([*tools, *sorted(everything)], dev, constraint=None)
    for room in DEPLOYABLES:
        compile_lock(declared(room), LOCKS / f"{room}.txt", constraint=dev)
    compile_lock(["uv"], LOCKS / "bootstrap.txt", constraint=None)


if __name__ == "__main__":
    main()
