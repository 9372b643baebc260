"""Returns memory that a worker no longer uses to the system."""

from __future__ import annotations

import ctypes
from typing import Final

_M_MMAP_THRESHOLD: Final = -3
"""glibc's number for the setting "size from which a block is mapped on its own" (mallopt(3))."""
_LARGE_BYTES: Final = 4 * 2**20
"""Bytes from which a block gets a mapping of its own. Each new mapping costs a page fault for every 4 KiB, so blocks
that come with every batch stay below this size: an ordinary batch takes up to 1 MB decompressed, and zstd takes 3.5 MiB
to compress one at librdkafka's default level. By itself glibc raises the value to 32 MiB as soon as a block of that
size is freed."""
_M_TRIM_THRESHOLD: Final = -1
"""glibc's number for the setting "free bytes at the heap's end from which they go back to the system" (mallopt(3))."""
_KEPT_BYTES: Final = 16 * 2**20
"""Free bytes that the heap may keep at its end: room for a few batches, little of a worker's 100 MiB."""


def return_large_blocks() -> None:
    """Give every large block back to the system when it is freed.

    By default glibc learns to keep large blocks on its heap, where smaller ones that live longer pin them: a worker
    that had once read 2 GB of large events kept 900 MB until its end, instead of 100 MB. Other C libraries have no such
    setting.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
