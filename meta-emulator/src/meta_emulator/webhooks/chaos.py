"""Forward compatibility on trial: unknown keys in a webhook, which consumers must ignore."""

from random import Random

from meta_emulator.model import Json

_VALUES: tuple[object, ...] = (None, True, 0, 1.5, "", "later", [], {"nested": [1, "two"]})


def add_unknown_keys(payload: Json, rng: Random) -> None:
    """Put one unknown key into every object of the payload, in place."""
    for value in list(payload.values()):
        _descend(value, rng)
    payload[f"x_{rng.getrandbits(24):06x}"] = rng.choice(_VALUES)


def _descend(value: object, rng: Random) -> None:
    if isinstance(value, dict):
        add_unknown_keys(value, rng)
    elif isinstance(value, list):
        for item in value:
            _descend(item, rng)
