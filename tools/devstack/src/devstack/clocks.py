"""A clock for the processes of a test stack that can be set while they run, by libfaketime.

It sets what processes read as the time of day. Clocks that only measure intervals go on, as they do when an operator or
NTP sets a machine's clock.
"""

from pathlib import Path

_LIBRARIES = ("faketime/libfaketimeMT.so.1", "libfaketimeMT.so.1")
_FOLDERS = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib")


def may_set_clocks() -> str:
    """Empty when clocks can be set here, else why not."""
    return "" if _library() else "libfaketime is not installed"


class Clock:
    """The time of day plus an offset. Give its `environment` to the processes that shall read it."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.set(0)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            # Seconds until a process notices.
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, offset_seconds: int) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{offset_seconds:+d}\n", encoding="ascii")
        fresh.replace(self._file)


def _library() -> Path | None:
    places = (Path(folder) / name for folder in _FOLDERS for name in _LIBRARIES)
    return next((place for place in places if place.exists()), None)
