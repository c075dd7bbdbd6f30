"""Runs the whole product on one machine without containers: engines, processes, seed data, test fixtures."""
