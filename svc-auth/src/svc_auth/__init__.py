"""Users, members, sessions and signing keys."""
