"""Webhooks of Meta in: verify, journal, acknowledge."""
