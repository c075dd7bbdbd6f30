"""Plumbing shared by the services. Knows the contracts' options, not the business."""

# Before anything imports what it spares.
from kit import spared_imports as spared_imports
