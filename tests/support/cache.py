"""The folder that keeps what tests fetch or build once: outside the source tree, so that every clone shares it."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """Return ``$PUSHRAIL_CACHE_DIR``, or our folder in the user's cache."""
    own = os.environ.get("PUSHRAIL_CACHE_DIR")
    shared = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(own) if own else Path(shared) / "pushrail-stream"
