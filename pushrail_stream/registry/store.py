"""The store of documents as files: written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from pushrail_stream.registry.findings import RegistryError


class FolderStore:
    """The documents' folder, to write to."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, file: Path, content: bytes | None) -> None:
        """Write a document, or delete it (None); raises `RegistryError` when that cannot be done."""
        if content is not None:
            replace_file(file, content)
            return
        try:
            file.unlink()
        except OSError as error:
            raise RegistryError(f"{file}: cannot be deleted: {(error.strerror or str(error)).lower()}") from error


def replace_file(file: Path, content: bytes) -> None:
    """Write a file so that readers see the old content or the new, also after a crash; its rights are kept.

    Raises `RegistryError` when it cannot be written.
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
