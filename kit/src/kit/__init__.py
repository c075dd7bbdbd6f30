"""Plumbing shared by the services. Knows the contracts' options, not the business."""

# Before anything else is imported, which both of them make quicker.
from kit import collector as collector
from kit import spared_imports as spared_imports
