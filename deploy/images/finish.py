"""Run inside an image's build: put our own packages beside the dependencies, prove that the room is whole, and write
down what is in the image (CycloneDX).

`finish.py ROOM PACKAGE VERSION`, with our sources in /tmp/ours.
"""

import compileall
import importlib
import importlib.metadata
import json
import pkgutil
import shutil
import sys
import sysconfig
from pathlib import Path

OURS = Path("/tmp/ours")  # noqa: S108 (inside a build, where nobody else is)
ROOT = Path("/opt/aerostic")
# What pip needs to install with and nobody needs to run with.
TOOLS = ("pip", "setuptools", "wheel")


def main(room: str, package: str, version: str) -> None:
    site = Path(sysconfig.get_path("purelib"))
    shutil.copytree(OURS, site, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for tool in TOOLS:
        for path in [site / tool, *site.glob(f"{tool}-*.dist-info"), *(ROOT / "bin").glob(f"{tool}*")]:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    # Hashes instead of dates: the same sources make the same image.
    compileall.compile_dir(site, quiet=2, invalidation_mode=compileall.py_compile.PycInvalidationMode.UNCHECKED_HASH)
    importlib.invalidate_caches()
    for found in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        if not found.name.endswith(".__main__") and ".versions" not in found.name:
            importlib.import_module(found.name)
    (ROOT / "sbom.cdx.json").write_text(json.dumps(bill(room, version), indent=1), encoding="utf-8")


def bill(room: str, version: str) -> dict[str, object]:
    components = sorted((each.name, each.version) for each in importlib.metadata.distributions())
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": f"aerostic-{room}", "version": version}},
        "components": [
            {"type": "library", "name": name, "version": number, "purl": f"pkg:pypi/{name.lower()}@{number}"}
            for name, number in components
        ],
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
