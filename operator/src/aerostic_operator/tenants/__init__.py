"""The kind Tenant."""
