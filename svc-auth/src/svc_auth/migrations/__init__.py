"""The auth database's revisions."""

from pathlib import Path

VERSIONS = Path(__file__).parent / "versions"
