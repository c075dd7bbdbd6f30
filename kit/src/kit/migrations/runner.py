"""Bring a database to the newest revision."""

from pathlib import Path

from alembic import command
from alembic.config import Config


def upgrade(owner_dsn: str, versions: Path) -> None:
    """Apply all missing revisions. Blocks; an advisory lock lets one in."""
    command.upgrade(_config(versions, owner_dsn), "head")


def _config(versions: Path, owner_dsn: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("version_locations", str(versions))
    config.set_main_option("path_separator", "os")
    config.attributes["dsn"] = owner_dsn
    return config
