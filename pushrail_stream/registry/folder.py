"""The folder: destination documents as files, looked at again and again for what has changed.

Looking and not listening: a change is seen on every file system, mounted, linked or swapped by an orchestrator.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, final

from pushrail_stream.ports import DocumentChange
from pushrail_stream.registry.findings import RegistryError

LOOK_SECS: Final = 2.0
"""Between two looks: a change is in force within 5 s."""
_EMPTY_LOOKS: Final = 10
"""Looks, some 7 s apart, that find all documents gone until that is believed: files are often replaced in two steps."""

_Signature = tuple[int, int, int, int]
"""Modification and change time in nanoseconds, size, inode: rights that change are a change too."""


@final
class Folder:
    """The ``*.json`` files of a directory. Implements `ports.Documents`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: dict[str, _Signature | None] | None = None
        self._identity: tuple[int, int] | None = None
        self._empty_looks = 0

    async def changes(self) -> Sequence[DocumentChange]:
        """Every document the first time, ordered by name, later what has changed; waits until something has.

        Raises `RegistryError` when the directory cannot be read, or has lost all its documents at once: as long as
        that may be an accident nothing has changed.
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
        identity = _identity(self._path)
        if len(seen) > 1 and not there:
            self._empty_looks += 1
            # Another directory under this name is a volume that is not mounted: that never means that all are deleted.
            if self._empty_looks < _EMPTY_LOOKS or identity != self._identity:
                raise RegistryError(
                    f"{self._path}: all {len(seen)} documents are gone at once: the last good ones stay for a minute"
                )
        changed = sorted(name for name, signature in there.items() if name not in seen or seen[name] != signature)
        changes = [read_document(Path(name)) for name in changed]
        changes += [DocumentChange(name, None) for name in seen if name not in there]
        self._seen, self._identity, self._empty_looks = there, identity, 0
        return changes


def document_files(path: Path) -> list[Path]:
    """The documents of a directory, sorted by name; raises `RegistryError` when it cannot be listed."""
    return sorted(Path(entry.path) for entry in document_entries(path))


def document_entries(path: Path) -> Iterator[os.DirEntry[str]]:
    """The documents of a directory: ``*.json``, without hidden files (editors' temporary ones are).

    In any order and cheaply: ten thousand are looked at every two seconds. Raises `RegistryError`.
    """
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                name = entry.name
                if name.endswith(".json") and not name.startswith((".", "#", "~")) and not entry.is_dir():
                    yield entry
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise RegistryError(f"{path}: no directory of destination documents: {reason} (registry.path)") from None


def read_document(file: Path) -> DocumentChange:
    """The document of a file, or why it cannot be read."""
    try:
        return DocumentChange(str(file), file.read_bytes())
    except OSError as error:
        return DocumentChange(str(file), None, f"cannot be read: {(error.strerror or str(error)).lower()}")


def _identity(path: Path) -> tuple[int, int] | None:
    """Which directory it is; None when it has just gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _signature(entry: os.DirEntry[str]) -> _Signature | None:
    """None for a file that cannot be looked at."""
    try:
        status = entry.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
