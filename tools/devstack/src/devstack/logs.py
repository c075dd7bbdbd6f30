"""Log files of the programs: rotated by size, read together.

The programs write to their files themselves, opened to append, so a killed supervisor breaks nothing. Rotation
copies and then empties the file; a line written between the two is lost, which a developer's log can bear.
"""

import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from devstack.child import last_lines

_LARGEST_BYTES = 16 * 1024 * 1024
_FOLLOW_SECONDS = 0.2
_COLOURS = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)


def rotate(log: Path) -> None:
    """Begin a new file; keep one old one."""
    if log.exists() and log.stat().st_size:
        shutil.copyfile(log, log.with_suffix(".log.1"))
        with log.open("r+b") as content:
            content.truncate()


def rotate_when_large(log: Path) -> None:
    if log.exists() and log.stat().st_size > _LARGEST_BYTES:
        rotate(log)


def show(folder: Path, names: Sequence[str], *, follow: bool, lines: int) -> None:
    """Print the ends of the logs, each line with its program's name; then go on as they grow."""
    files = {path.stem: path for path in sorted(folder.glob("*.log")) if not names or path.stem in names}
    width = max((len(name) for name in files), default=0)
    colours = {name: _COLOURS[number % len(_COLOURS)] for number, name in enumerate(files)}

    def prefix(name: str) -> str:
        padded = f"{name:<{width}}"
        return f"\x1b[{colours[name]}m{padded}\x1b[0m │ " if sys.stdout.isatty() else f"{padded} | "

    places = {name: path.stat().st_size for name, path in files.items()}
    for name, path in files.items():
        for line in last_lines(path, lines):
            print(prefix(name) + line)
    while follow:
        for name, path in files.items():
            for line in _grown(path, places, name):
                print(prefix(name) + line, flush=True)
        time.sleep(_FOLLOW_SECONDS)


def _grown(path: Path, places: dict[str, int], name: str) -> Iterator[str]:
    size = path.stat().st_size
    if size < places[name]:  # rotated
        places[name] = 0
    if size == places[name]:
        return
    with path.open("rb") as content:
        content.seek(places[name])
        fresh = content.read()
    # An unfinished last line waits for its end.
    whole = fresh[: fresh.rfind(b"\n") + 1]
    places[name] += len(whole)
    yield from whole.decode("utf-8", "replace").splitlines()
