"""Measures each claim of the product beside a physical limit of the machine it runs on. See README.md."""
