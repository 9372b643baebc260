"""Positions on the command line: where a record lies."""

from __future__ import annotations

from pushrail_stream.cli.errors import CommandError
from pushrail_stream.core.record import Origin


def parse_position(text: str) -> Origin:
    """``topic/partition/offset`` as the argument POSITION of a command."""
    topic, *numbers = text.rsplit("/", 2)
    if len(numbers) != 2 or not all(number.isascii() and number.isdigit() for number in numbers):  # noqa: PLR2004
        raise CommandError("POSITION: must be topic/partition/offset", 2)
    return Origin(topic, int(numbers[0]), int(numbers[1]))
