"""Documents as files, which are written whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import final

from pushrail_stream.blocking import in_daemon_thread
from pushrail_stream.errors import UsageError
from pushrail_stream.files import read_regular_file, reason_of
from pushrail_stream.ports.documents import DocumentChange
from pushrail_stream.registry.folder import Folder


@final
class FolderStore:
    """Changes the documents in a folder. Implements `ports.DocumentStore`; raises `UsageError`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def everything(self) -> Sequence[DocumentChange]:
        """Every document."""
        return await Folder(self._path).changes()

    async def read(self, name: str) -> bytes | None:
        """The present content of a document; None if it is gone."""
        return await in_daemon_thread(read_file, Path(name))

    async def write(self, name: str, content: bytes | None) -> None:
        """Write a document, or delete it (None)."""
        if content is None:
            await in_daemon_thread(_delete, Path(name))
        else:
            await in_daemon_thread(replace_file, Path(name), content)


def read_file(file: Path) -> bytes | None:
    """The content of a file; None when there is none. Raises `UsageError` when it cannot be read."""
    try:
        return read_regular_file(file)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {reason_of(error)}") from error


def replace_file(file: Path, content: bytes, *, is_private: bool = False) -> None:
    """Write a file so that readers see the old content or the new, also after a crash.

    The file keeps its rights, and its owner if this process may set it. A link stays, and its target is written. A new
    private file is readable by its owner only; other new files follow the umask. Raises `UsageError`.
    """
    target = Path(os.path.realpath(file))
    # Hidden, so that it does not pass for a document; in the same folder, so that renaming is one step.
    new = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        if target.exists() and not target.is_file():  # renaming would end a device or a pipe for everybody
            raise UsageError(f"{file}: cannot be written: not a regular file")
        try:
            _write_new(new, content, target, 0o600 if is_private else 0o666)
            new.replace(target)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        _sync_folder(target.parent)
    except OSError as error:
        raise UsageError(f"{file}: cannot be written: {reason_of(error)}") from error


@contextmanager
def changing_alone(file: Path) -> Iterator[None]:
    """Lock a file against other processes that change it under this lock, until the block ends.

    The lock is on the folder, because every change replaces the file itself. Raises `UsageError`.
    """
    try:
        folder = os.open(Path(os.path.realpath(file)).parent, os.O_RDONLY)
    except OSError as error:
        raise UsageError(f"{file}: cannot be written: {reason_of(error)}") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _write_new(new: Path, content: bytes, like: Path, rights: int) -> None:
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, rights), "wb") as file:
        with contextlib.suppress(FileNotFoundError):
            before = like.stat()
            with contextlib.suppress(PermissionError):
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
            os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    """Let a new name in a folder survive a crash."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _delete(file: Path) -> None:
    try:
        file.unlink()
        _sync_folder(file.parent)
    except OSError as error:
        raise UsageError(f"{file}: cannot be deleted: {reason_of(error)}") from error
