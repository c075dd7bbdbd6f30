"""Schema migrations: Alembic with raw SQL, run as the database's owner, one runner at a time.

A service keeps its revisions in `svc_x/migrations/versions`. Every migration must work with the code of the previous
release (expand, deploy, contract), because services of both releases run side by side during an update.
"""

from kit.migrations.runner import head_of, migrate, require_schema
from kit.migrations.tables import create_outbox, protect_tenant_table

__all__ = ["create_outbox", "head_of", "migrate", "protect_tenant_table", "require_schema"]
