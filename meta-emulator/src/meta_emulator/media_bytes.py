"""Bytes of media: in memory, or one file each in the folder beside the state file."""

import contextlib
from pathlib import Path


class MediaBytes:
    def __init__(self, state_file: Path | None) -> None:
        self._memory: dict[str, bytes] = {}
        self._folder = state_file.with_name(state_file.name + ".media") if state_file else None

    def put(self, media_id: str, content: bytes) -> None:
        if self._folder is None:
            self._memory[media_id] = content
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = self._folder / f"{media_id}.part"
        partial.write_bytes(content)
        partial.replace(self._folder / media_id)

    def get(self, media_id: str) -> bytes | None:
        """None when they are gone (deleted, or a folder removed by hand)."""
        if self._folder is None:
            return self._memory.get(media_id)
        with contextlib.suppress(FileNotFoundError):
            return (self._folder / media_id).read_bytes()
        return None

    def delete(self, media_id: str) -> None:
        self._memory.pop(media_id, None)
        if self._folder is not None:
            (self._folder / media_id).unlink(missing_ok=True)
