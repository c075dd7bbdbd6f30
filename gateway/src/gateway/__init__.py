"""The edge: REST transcoded from the contracts, sessions, the live stream and media."""
