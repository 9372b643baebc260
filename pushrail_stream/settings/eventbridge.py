"""EventBridge's facts that settings, destination documents and ingest share with the bus itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pushrail_stream.core.destination import Destination, Secret

MAX_ENTRIES: Final = 10
"""Entries in one PutEvents call (botocore service model)."""
MAX_REQUEST_BYTES: Final = 1_048_576
"""Largest sum of entry sizes in one call, in bytes (AWS documentation; 262,144 before 2026-01-29)."""
TIME_BYTES: Final = 14
"""Bytes that AWS counts for an entry's ``Time``, whatever its value."""
MAX_SOURCE_BYTES: Final = 256
"""Longest ``sourceNamespace`` of a destination, in bytes."""


@dataclass(frozen=True, slots=True)
class AssumeRole:
    """Sign in as a role of the customer's account, bound to us by the external ID."""

    role_arn: str
    external_id: str


@dataclass(frozen=True, slots=True)
class AccessKey:
    """Sign with the customer's IAM access key pair. Without ``secret`` (it could not be had) no call is made."""

    access_key_id: str
    secret: Secret | None
    is_waiting: bool = False
    """The secret is there, and only what opens it is missing: our own fault, and mended without the document."""


Auth = AssumeRole | AccessKey


def auth_of(destination: Destination) -> Auth:
    """The way to sign in at the destination's bus."""
    if isinstance(destination.auth, AssumeRole | AccessKey):
        return destination.auth
    raise TypeError(f"{destination.id} is no destination on EventBridge")
