"""Positions of records as arguments of a command."""

from __future__ import annotations

import re
from typing import Final

from pushrail_stream.core.record import Origin
from pushrail_stream.errors import UsageError

_NUMBER: Final = re.compile(r"[0-9]{1,19}")
_MAX_PARTITION: Final = 2**31 - 1
_MAX_OFFSET: Final = 2**63 - 1
"""Kafka's partition numbers have 32 bits, its offsets 64."""


def parse_position(text: str) -> Origin:
    """``topic/partition/offset`` as the argument POSITION of a command."""
    topic, *numbers = text.rsplit("/", 2)
    partition, offset = map(parse_offset, numbers) if len(numbers) == 2 else (None, None)  # noqa: PLR2004
    if partition is None or offset is None or partition > _MAX_PARTITION:
        raise UsageError("POSITION: must be topic/partition/offset")
    return Origin(topic, partition, offset)


def parse_offset(text: str) -> int | None:
    """An offset in decimal digits; None for any other text."""
    offset = int(text) if _NUMBER.fullmatch(text) else None
    return offset if offset is None or offset <= _MAX_OFFSET else None
