"""Disks of tests: small ones that fill up, and ones that forget what was not synced when their power is cut.

Both are file systems of their own, mounted by root; `may_mount` says whether this process can.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

_MEBIBYTE = 1024 * 1024
_MEMORY = Path("/dev/shm")  # noqa: S108 (images live in memory: a cut must not wait for a real disk)


def may_mount() -> str:
    """Empty when disks can be made here, else why not."""
    if os.geteuid() != 0:
        return "only root may mount file systems"
    if missing := [name for name in ("mount", "umount", "mkfs.ext4", "losetup") if shutil.which(name) is None]:
        return f"not installed: {', '.join(missing)}"
    with tempfile.TemporaryDirectory() as folder:
        try:
            with small(Path(folder), mebibytes=1), PowerDisk(Path(folder), mebibytes=16):
                return ""
        except MountRefused as error:
            return str(error)


class MountRefused(RuntimeError):
    """The system does not let us mount."""


@contextmanager
def small(folder: Path, *, mebibytes: int) -> Iterator["SmallDisk"]:
    """A disk of this size in place of the folder, while the block runs."""
    folder.mkdir(parents=True, exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "aerostic-small", str(folder))
    try:
        yield SmallDisk(folder)
    finally:
        _run("umount", "--lazy", str(folder))


class SmallDisk:
    """A disk that can be full."""

    def __init__(self, folder: Path) -> None:
        self._filler = folder / "somebody-elses-file"
        self._folder = folder

    @property
    def free_bytes(self) -> int:
        status = os.statvfs(self._folder)
        return status.f_bavail * status.f_frsize

    def fill(self) -> None:
        """Take all the space that is left."""
        with self._filler.open("ab") as file:
            while left := self.free_bytes:
                file.write(bytes(min(left, _MEBIBYTE)))
                file.flush()

    def clear(self) -> None:
        """Give the space back."""
        self._filler.unlink(missing_ok=True)


class PowerDisk:
    """An ext4 disk mounted at a folder, whose image holds what reached the disk and nothing of what the kernel still
    keeps in memory: a copy of the image is what a power cut leaves.
    """

    def __init__(self, folder: Path, *, mebibytes: int = 1024) -> None:
        self._folder = folder
        self._images = Path(tempfile.mkdtemp(prefix="aerostic-disk-", dir=_MEMORY))
        self._image = self._images / "image"
        with self._image.open("wb") as file:
            file.truncate(mebibytes * _MEBIBYTE)
        _run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(self._image))

    def __enter__(self) -> Self:
        try:
            self._mount()
        except MountRefused:
            shutil.rmtree(self._images)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        _run("umount", "--lazy", str(self._folder))
        shutil.rmtree(self._images)

    def sync(self) -> None:
        """Put all on the disk, as time does: what was installed long before the cut."""
        _run("sync", "-f", str(self._folder))

    def photograph(self) -> None:
        """Keep what is on the disk at this moment. Whoever writes to it must be stopped (SIGSTOP), not synced."""
        _run("cp", "--sparse=always", str(self._image), str(self._images / "cut"))

    def cut(self) -> None:
        """Go on with what was photographed. Nobody may have files open."""
        _run("umount", str(self._folder))
        (self._images / "cut").replace(self._image)
        self._mount()

    def _mount(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        # Journal commits that nobody asked for by a sync would save what a cut must lose.
        _run("mount", "-o", "loop,commit=600,noatime", str(self._image), str(self._folder))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode != 0:
        raise MountRefused(f"{' '.join(command[:2])}: {done.stderr.strip()}")
