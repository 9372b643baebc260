"""EventBridge's limits that settings, destination documents and ingest share with the bus itself."""

from __future__ import annotations

from typing import Final

MAX_ENTRIES: Final = 10
"""Entries in one PutEvents call (botocore service model)."""
MAX_REQUEST_BYTES: Final = 1_048_576
"""Largest sum of entry sizes in one call, in bytes (AWS documentation; 262,144 before 2026-01-29)."""
TIME_BYTES: Final = 14
"""Bytes that AWS counts for an entry's ``Time``, whatever its value."""
