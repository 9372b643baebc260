"""The store of documents as files: written whole or not at all."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import final

from pushrail_stream.ports import DocumentChange
from pushrail_stream.registry.findings import RegistryError
from pushrail_stream.registry.folder import Folder


@final
class FolderStore:
    """The documents' folder, to change. Implements `ports.DocumentStore`; raises `RegistryError`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def everything(self) -> Sequence[DocumentChange]:
        """Every document there is."""
        return await Folder(self._path).changes()

    async def read(self, name: str) -> bytes | None:
        """A document as it is now; None when it is gone or cannot be read."""
        try:
            return await asyncio.to_thread(Path(name).read_bytes)
        except OSError:
            return None

    async def write(self, name: str, content: bytes | None) -> None:
        """Write a document, or delete it (None)."""
        if content is None:
            await asyncio.to_thread(_delete, Path(name))
        else:
            await asyncio.to_thread(replace_file, Path(name), content)


def replace_file(file: Path, content: bytes) -> None:
    """Write a file so that readers see the old content or the new, also after a crash; its rights are kept.

    A new file is its owner's alone. Raises `RegistryError` when it cannot be written.
    """
    try:
        mode = file.stat().st_mode & 0o777 if file.exists() else 0o600
        # Hidden, so that nobody takes it for a document; beside it, so that renaming is one step.
        with tempfile.NamedTemporaryFile(dir=file.parent, prefix=".", delete=False) as new:
            new.write(content)
            new.flush()
            os.fchmod(new.fileno(), mode)
            os.fsync(new.fileno())
        Path(new.name).replace(file)
    except OSError as error:
        raise RegistryError(f"{file}: cannot be written: {(error.strerror or str(error)).lower()}") from error


def _delete(file: Path) -> None:
    try:
        file.unlink()
    except OSError as error:
        raise RegistryError(f"{file}: cannot be deleted: {(error.strerror or str(error)).lower()}") from error
