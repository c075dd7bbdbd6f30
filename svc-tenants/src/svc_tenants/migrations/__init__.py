"""Schema revisions of svc-tenants."""

from pathlib import Path

VERSIONS = Path(__file__).parent / "versions"
