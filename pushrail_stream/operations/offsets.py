"""Moves the committed offsets of the workers' group on the events topic."""

from __future__ import annotations

from collections.abc import Sequence

from pushrail_stream.core.record import parse_offset
from pushrail_stream.errors import OperatorError, UsageError
from pushrail_stream.kafka.client_properties import kafka_for
from pushrail_stream.kafka.groups import Shift, Target, members_of, move_group, plan_shift
from pushrail_stream.operations.times import parse_moment
from pushrail_stream.settings.model import Settings


def parse_target(text: str) -> Target | None:
    """The offsets that ``earliest``, ``latest``, an offset, a time or "2h" (ago) name; None for any other text."""
    if text in {"earliest", "latest"}:
        return text
    offset = parse_offset(text)
    if offset is not None:
        return offset
    epoch_ms = parse_moment(text)
    return None if epoch_ms is None else f"time:{epoch_ms}"


def move_offsets(settings: Settings, target: Target, partition: int | None, *, is_dry_run: bool) -> Sequence[Shift]:
    """Move the offsets of all partitions, or of one. Raises `OperatorError`, also while a worker is running."""
    kafka, group, topic = kafka_for(settings), settings.kafka.group_id, settings.topics.events
    members = members_of(kafka, group)
    if members and not is_dry_run:
        raise OperatorError(
            f"group {group} is active ({', '.join(members)}): stop its workers first; its offsets stay as they are"
        )
    shifts = plan_shift(kafka, group, topic, target, partition)
    if not shifts:
        raise UsageError(f"--partition: {topic} has no partition {partition}")
    if not is_dry_run:
        move_group(kafka, group, topic, shifts)
    return shifts
