"""The app: hand-written routes first, then those derived from the contracts; and its life."""
