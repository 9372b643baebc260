"""Returns memory that a worker no longer uses to the system."""

from __future__ import annotations

import ctypes
from typing import Final

_M_MMAP_THRESHOLD: Final = -3
"""glibc's number for the setting "size from which a block is mapped on its own" (mallopt(3))."""
_LARGE_BYTES: Final = 128 * 2**10
"""glibc's own default, which it raises to 32 MiB by itself as soon as a block of that size is freed."""


def return_large_blocks() -> None:
    """Give every large block back to the system when it is freed.

    By default glibc learns to keep large blocks on its heap, where smaller ones that live longer pin them: a worker
    that had once read 2 GB of large events kept 900 MB for ever, instead of 100 MB. Other C libraries have no such
    setting.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
