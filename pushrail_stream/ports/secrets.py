"""Master keys, which wrap the data keys of sealed secrets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from pushrail_stream.errors import OperatorError


class KeyUnavailable(OperatorError):  # noqa: N818 - it is the sentence a person reads
    """The key of a sealed secret is not available now, and may be later. The message says why, without the secret."""


class MasterKey(Protocol):
    """Wraps the data keys that seal secrets. Each is bound to a context and unwraps with no other."""

    def new_data_key(self, context: Mapping[str, str]) -> tuple[bytes, bytes]:
        """A fresh data key of 32 bytes, plain and wrapped; raises `KeyUnavailable`."""

    def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes | None:
        """The data key; None if another key or context wrapped it. Raises `KeyUnavailable`."""
