"""Models of AWS in botocore, read once in each process: every session reads megabytes of JSON, a tenth of a second."""

from __future__ import annotations

import functools

import botocore.loaders
import botocore.session


def share_models() -> None:
    """Let all sessions of this process share what one has read, as the clients of one session do."""
    botocore.session.create_loader = functools.cache(botocore.loaders.create_loader)
