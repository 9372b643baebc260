"""Files that commands keep."""

from __future__ import annotations

from pathlib import Path

from pushrail_stream.errors import UsageError
from pushrail_stream.files import read_regular_file, reason_of


def read_if_there(path: Path, what: str) -> bytes | None:
    """The file's content, None when there is none; ends the command when it cannot be read."""
    try:
        return read_regular_file(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{path}: {what} cannot be read: {reason_of(error)}") from None
