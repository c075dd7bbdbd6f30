"""Plumbing shared by the services. Knows the contracts' options, not the business."""
