"""The folder: destination documents as files, looked at again and again for what has changed.

Looking and not listening: a change is seen on every file system, mounted, linked or swapped by an orchestrator.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, final

from pushrail_stream.ports import DocumentChange
from pushrail_stream.registry.directory import document_entries
from pushrail_stream.registry.findings import RegistryError

LOOK_SECS: Final = 2.0
"""Between two looks: a change is in force within 5 s."""

_Signature = tuple[int, int, int, int]
"""Modification and change time in nanoseconds, size, inode: rights that change are a change too."""


@final
class Folder:
    """The ``*.json`` files of a directory. Implements `ports.Documents`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: dict[str, _Signature | None] | None = None

    async def changes(self) -> Sequence[DocumentChange]:
        """Every document the first time, later what has changed; waits until something has.

        Raises `RegistryError` when the directory cannot be read, or has lost all its documents at once: that is taken
        for an accident, and nothing has changed.
        """
        if self._seen is None:
            return await asyncio.to_thread(self._look, {})
        while True:
            await asyncio.sleep(LOOK_SECS)
            changes = await asyncio.to_thread(self._look, self._seen)
            if changes:
                return changes

    def _look(self, seen: dict[str, _Signature | None]) -> list[DocumentChange]:
        there = {entry.path: _signature(entry) for entry in document_entries(self._path)}
        if len(seen) > 1 and not there:
            raise RegistryError(f"{self._path}: all {len(seen)} documents are gone at once: the last good ones stay")
        changes = [_read(name) for name, signature in there.items() if name not in seen or seen[name] != signature]
        changes += [DocumentChange(name, None) for name in seen if name not in there]
        self._seen = there
        return changes


def _signature(entry: os.DirEntry[str]) -> _Signature | None:
    """None for a file that cannot be looked at."""
    try:
        status = entry.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def _read(name: str) -> DocumentChange:
    try:
        return DocumentChange(name, Path(name).read_bytes())
    except OSError as error:
        return DocumentChange(name, None, f"cannot be read: {(error.strerror or str(error)).lower()}")
