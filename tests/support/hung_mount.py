"""A mount that never answers: a FUSE file system whose server reads no request. Only root can make one."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.support.patience import PATIENCE_SECS
from tests.support.tools import UNCHECKED

_DEVICE: Final = "/dev/fuse"
_DETACH: Final = 2
"""umount2's flag MNT_DETACH."""


@contextmanager
def hung_mount(folder: Path) -> Iterator[None]:
    """Mount it on the folder; whatever hangs there gets an error when the block ends."""
    try:
        server = os.open(_DEVICE, os.O_RDWR)
    except OSError as error:
        pytest.skip(f"{_DEVICE} cannot be opened ({error.strerror}): {UNCHECKED}")
    system = ctypes.CDLL(None, use_errno=True)
    options = f"fd={server},rootmode=40000,user_id=0,group_id=0".encode()
    try:
        if system.mount(b"hung", bytes(folder), b"fuse", 0, options) != 0:
            pytest.skip(f"nothing can be mounted ({os.strerror(ctypes.get_errno())}): {UNCHECKED}")
        try:
            yield
        finally:
            system.umount2(bytes(folder), _DETACH)
    finally:
        os.close(server)


def until_stuck(threads: int) -> None:
    """Until exactly this many threads are stuck; one that has just given its result may still be ending."""
    give_up_at = time.monotonic() + PATIENCE_SECS
    while (stuck := sum(thread.name.startswith("aside-") for thread in threading.enumerate())) != threads:
        assert time.monotonic() < give_up_at, f"{stuck} threads are stuck"
        time.sleep(0.01)
