"""Destination documents in a folder, which is polled for changes.

Polling sees a change on every file system, mounted, linked or swapped. A look asks for each file's times, size and
inode, and reads only the files for which these have changed. It runs on a daemon thread, because a mount that does not
answer may block it without end.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Final, NamedTuple, final

from pushrail_stream import files
from pushrail_stream.blocking import start_daemon_thread
from pushrail_stream.errors import UsageError
from pushrail_stream.files import read_regular_file, reason_of
from pushrail_stream.ports.documents import DocumentChange

LOOK_SECS: Final = 2.0
"""Time between two looks: a change is in force within 5 s."""
_MAX_HUNG: Final = 8
"""Most threads that may be stuck at hung files. With more such files, nothing changes until one answers."""
_LOOK_COST: Final = 20
"""Looks take at most 1/20 of one core's time. A look at 100,000 documents takes 0.35 s of CPU time."""
_EMPTY_LOOKS: Final = 10
"""Looks, about 7 s apart, that must find no document before all count as deleted: files are often replaced in two
steps."""
_CLOCK_NS: Final = 60_000_000_000
"""Age, in nanoseconds, at which a changed file has settled. It leaves room for a file server's inexact clock."""

_Signature = tuple[int, int, int, int]
"""Modification and change time in nanoseconds, size, inode. A change of the rights counts too."""
_HUNG: Final = (0, 0, 0, -1)
"""Stands for the signature of a file that does not answer."""


@final
class Folder:
    """The ``*.json`` files of a directory. Implements `ports.DocumentSource`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: dict[str, _Signature | None] | None = None
        self._unsettled: dict[str, bytes] = {}
        self._identity: tuple[int, int] | None = None
        self._empty_looks = 0
        self._cpu_secs = 0.0
        """CPU time of the last look without reading files."""
        self._hung: dict[str, Future[_Found]] = {}
        """Stuck looks, by the name of the file; the empty name stands for the folder."""

    async def changes(self) -> Sequence[DocumentChange]:
        """Every document the first time, ordered by name, later those that have changed; waits until one has.

        Raises `UsageError` when the directory cannot be read, or has lost all its documents at once: while that may be
        an accident, nothing has changed.
        """
        if self._seen is None:
            return await self.look()
        while True:
            await asyncio.sleep(max(LOOK_SECS, self._cpu_secs * (_LOOK_COST - 1)))
            if changes := await self.look():
                return changes

    async def look(self) -> Sequence[DocumentChange]:
        """Look once; raises as `changes` does, and when the directory or too many of its files do not answer."""
        while True:
            self._hung = {name: call for name, call in self._hung.items() if not call.done()}
            if "" in self._hung:
                raise UsageError(f"{self._path}: does not answer: nothing changes until it does")
            if len(self._hung) > _MAX_HUNG:
                raise UsageError(f"{self._path}: {len(self._hung)} files do not answer: nothing changes until they do")
            walk = _Walk(self._path, self._seen, self._unsettled, frozenset(self._hung))
            call = start_daemon_thread(walk.run)
            found = await _answer(call, walk)
            if found is not None:
                return self._take(found)
            self._hung[walk.at] = call

    def _take(self, found: _Found) -> list[DocumentChange]:
        seen = self._seen or {}
        if len(seen) > 1 and not found.there:
            self._empty_looks += 1
            # Another directory of this name is a volume that is not mounted: its documents are not deleted.
            if self._empty_looks < _EMPTY_LOOKS or found.identity != self._identity:
                raise UsageError(
                    f"{self._path}: all {len(seen)} documents are gone at once: the last good ones stay for a minute"
                )
        self._seen, self._identity, self._empty_looks = found.there, found.identity, 0
        self._unsettled, self._cpu_secs = found.unsettled, found.cpu_secs
        return found.changes


class _Found(NamedTuple):
    """The result of a look."""

    there: dict[str, _Signature | None]
    """Every document's name and signature; None for a file whose signature cannot be read."""
    identity: tuple[int, int]
    """Device and inode of the directory."""
    changes: list[DocumentChange]
    unsettled: dict[str, bytes]
    """Files to read again at the next look, each with a digest of the last reading."""
    cpu_secs: float


@final
class _Walk:
    """One look. While it runs on its thread, `at` and `steps` show its progress to the event loop."""

    def __init__(
        self,
        path: Path,
        seen: Mapping[str, _Signature | None] | None,
        unsettled: Mapping[str, bytes],
        hung: frozenset[str],
    ) -> None:
        """``hung``: files to leave out, because another thread is stuck at them."""
        self._path = path
        self._is_first = seen is None
        self._seen = seen or {}
        self._before = unsettled
        self._hung = hung
        self.at = ""
        """Name of the present file; empty for the folder itself."""
        self.steps = 0

    def run(self) -> _Found:
        """Look, and read the files that have changed. Raises `UsageError`."""
        began = time.thread_time()
        there, identity = self._signatures()
        cpu_secs = time.thread_time() - began
        changed = {name for name, signature in there.items() if self._seen.get(name, ...) != signature}
        changes: list[DocumentChange] = []
        unsettled: dict[str, bytes] = {}
        for name in sorted(changed | (self._before.keys() & there.keys())):
            change = self._read(name)
            digest = _digest(change)
            if name in changed or self._before[name] != digest:
                changes.append(change)
            if self._is_unsettled(name in changed, there[name], change):
                unsettled[name] = digest
        changes += [DocumentChange(str(self._path / name), None) for name in self._seen if name not in there]
        return _Found(there, identity, changes, unsettled, cpu_secs)

    def _signatures(self) -> tuple[dict[str, _Signature | None], tuple[int, int]]:
        there: dict[str, _Signature | None] = {}
        with _opened(self._path) as (folder, names):
            status = os.fstat(folder)
            for name in names:
                if name in self._hung:
                    there[name] = _HUNG
                    continue
                self._step(name)
                try:
                    found = os.stat(name, dir_fd=folder)
                except FileNotFoundError:
                    if _is_link(name, folder):
                        there[name] = None
                except OSError:
                    there[name] = None
                else:
                    if not stat.S_ISDIR(found.st_mode):
                        there[name] = (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)
        return there, (status.st_dev, status.st_ino)

    def _read(self, name: str) -> DocumentChange:
        file = self._path / name
        if name in self._hung:
            return DocumentChange(str(file), None, "cannot be read: does not answer")
        self._step(name)
        return read_document(file)

    def _is_unsettled(self, is_changed: bool, signature: _Signature | None, change: DocumentChange) -> bool:  # noqa: FBT001
        """Whether the next look must read a file again even if its signature is the same.

        A second change within one tick of the file system's clock, after our reading, does not change the signature.
        The next look comes later than the coarsest tick (2 s). A file that could not be read may be readable then.
        """
        if change.problem:
            return signature != _HUNG
        is_recent = signature is not None and time.time_ns() - max(signature[:2]) < _CLOCK_NS
        return is_changed and (is_recent or not self._is_first)

    def _step(self, name: str) -> None:
        self.at = name
        self.steps += 1


async def _answer(call: Future[_Found], walk: _Walk) -> _Found | None:
    """Wait for a look. Returns None if it makes no progress for `files.ANSWER_SECS`.

    Raises `UsageError` if there is no directory.
    """
    answer = asyncio.wrap_future(call)
    try:
        while True:
            steps = walk.steps
            await asyncio.wait({answer}, timeout=files.ANSWER_SECS)
            if answer.done():
                return answer.result()
            if walk.steps == steps:
                return None
    finally:
        answer.cancel()


def document_files(path: Path) -> list[Path]:
    """The documents of a directory, sorted by name; raises `UsageError` when it cannot be listed."""
    with _opened(path) as (_, names):
        return sorted(file for name in names if not (file := path / name).is_dir())


@contextmanager
def _opened(path: Path) -> Iterator[tuple[int, list[str]]]:
    """An open directory's descriptor, and the names of documents: ``*.json``, without editors' hidden files."""
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _unlisted(path, error) from None
    try:
        names = os.listdir(folder)  # noqa: PTH208 - a Path cannot list a descriptor
    except OSError as error:
        os.close(folder)
        raise _unlisted(path, error) from None
    try:
        yield folder, [name for name in names if name.endswith(".json") and not name.startswith((".", "#", "~"))]
    finally:
        os.close(folder)


def _unlisted(path: Path, error: OSError) -> UsageError:
    reason = reason_of(error)
    remedy = (
        "correct registry.path, or make it with `pushrail-stream config init` or `pushrail-stream destinations onboard`"
    )
    return UsageError(f"{path}: no directory of destination documents: {reason}; {remedy}")


def _is_link(name: str, folder: int) -> bool:
    """Whether a name without a file is a broken link; False if the name itself has just gone."""
    try:
        return stat.S_ISLNK(os.lstat(name, dir_fd=folder).st_mode)
    except OSError:
        return False


def _digest(change: DocumentChange) -> bytes:
    content = change.problem.encode() if change.content is None else change.content
    return blake2b(content, digest_size=16, person=b"problem" if change.content is None else b"").digest()


def read_document(file: Path) -> DocumentChange:
    """The document of a file, or why it cannot be read."""
    try:
        return DocumentChange(str(file), read_regular_file(file))
    except OSError as error:
        return DocumentChange(str(file), None, f"cannot be read: {reason_of(error)}")
