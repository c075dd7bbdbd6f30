"""One owner per folder: a file lock that the system frees when its holder ends in any way."""

import fcntl
import os
from pathlib import Path


class FolderInUse(RuntimeError):
    """Another start holds the folder."""

    def __init__(self, folder: Path, pid: str) -> None:
        self.pid = pid
        super().__init__(f"{folder} is in use by another start (process {pid or 'unknown'}); stop that one first.")


class FolderLock:
    """Held from creation until `release` or the end of the process."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / ".lock"
        self._file: int | None = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise FolderInUse(folder, path.read_text(encoding="ascii").strip()) from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def locked_by(folder: Path) -> int | None:
    """The process that holds a folder, if one does."""
    try:
        file = os.open(folder / ".lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.pread(file, 32, 0) or b"0")
    else:
        return None
    finally:
        os.close(file)
