"""Files that commands keep."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pushrail_stream.cli.errors import CommandError


def read_if_there(path: Path, what: str) -> bytes | None:
    """The file's content, None when there is none; ends the command when it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CommandError(f"{path}: {what} cannot be read: {(error.strerror or str(error)).lower()}", 2) from None


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Let commands that read a file and write it anew come one after the other, or one's change is lost.

    Its folder is locked: the file itself is replaced. Ends the command when that cannot be had.
    """
    try:
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise CommandError(f"{path.parent}: {(error.strerror or str(error)).lower()}", 2) from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
