"""Files that operators name. The reader is never blocked by a named pipe, a device or a mount that does not answer."""

from __future__ import annotations

import errno
import os
import resource
import stat
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Final, Generic, TypeVar, final

from pushrail_stream.blocking import start_daemon_thread

ANSWER_SECS: Final = 5.0
"""Time after which a file system that does not answer counts as hung, in seconds. A busy one answers."""

MAX_FILE_BYTES: Final = 64 * 2**20
"""The largest file that is read, in bytes. Every file that operators name is far smaller."""

T = TypeVar("T")


def read_regular_file(path: Path) -> bytes:
    """The content of a regular file. Raises `OSError`: its ``strerror`` says why the file cannot be read."""
    # Without O_NONBLOCK, opening a named pipe waits for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        _check_regular(path, status.st_mode)
        _check_size(path, status.st_size)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(MAX_FILE_BYTES + 1)  # it may have grown, and files of /proc have size 0
        _check_size(path, len(content))
    finally:
        os.close(descriptor)
    return content


def max_open_files() -> int | None:
    """The number of files that this process may open; None for no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def reason_of(error: OSError) -> str:
    """The system's reason, in the middle of a sentence."""
    return (error.strerror or str(error)).lower()


@final
class Answering(Generic[T]):
    """A call to a file system that is given up after `ANSWER_SECS`.

    A hung call is not repeated until it has ended, so at most one thread of each caller is stuck.
    """

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._stuck: Future[T] | None = None

    def __call__(self) -> T:
        """The call's result. Raises its exception, or `OSError` if it does not answer."""
        if self._stuck is None or self._stuck.done():
            running = start_daemon_thread(self._call)
            try:
                result = running.result(ANSWER_SECS)
            except TimeoutError:
                if running.done():
                    raise  # the call itself has raised it
                self._stuck = running
            else:
                return result
        raise OSError(errno.ETIMEDOUT, "does not answer")


def _check_size(path: Path, size: int) -> None:
    if size > MAX_FILE_BYTES:
        raise OSError(errno.EFBIG, f"larger than {MAX_FILE_BYTES // 2**20} MiB", str(path))


def _check_regular(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
