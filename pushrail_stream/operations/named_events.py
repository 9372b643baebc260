"""Named events: those that the delivery log shows as delivered to a destination, or as skipped while it was paused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, final

from pushrail_stream.core.record import Record
from pushrail_stream.core.signals import SkipReason
from pushrail_stream.operations.attempts import Attempt

_PAUSED: Final[SkipReason] = "paused"


class NamedEvents:
    """Collects events from attempt records, and then finds them among the records of the events' topic."""

    def __init__(self, topic: str, destination: str) -> None:
        self._topic = topic
        self._destination = destination
        self._left: dict[tuple[int, int], str | None] = {}
        """By partition and offset the topic's id; None where the log names none."""

    def __len__(self) -> int:
        """Events that have not been found yet."""
        return len(self._left)

    def take(self, attempt: Attempt) -> None:
        """Learn from one attempt record."""
        if attempt.get("destinationId") != self._destination or not self._is_meant(attempt):
            return
        origin = attempt.origin
        if origin is not None and origin.topic == self._topic:
            self._left[origin.partition, origin.offset] = origin.topic_id

    def starts(self, progress: Mapping[int, int]) -> Mapping[int, int]:
        """By partition, the offset of its first event. Forgets events below ``progress``, which have been sent."""
        for partition, offset in list(self._left):
            if offset < progress.get(partition, 0):
                del self._left[partition, offset]
        firsts: dict[int, int] = {}
        for partition, offset in self._left:
            firsts[partition] = min(offset, firsts.get(partition, offset))
        return firsts

    def find(self, record: Record) -> bool:
        """Whether this record is one of the events. Each is found once."""
        position = record.partition, record.offset
        if position not in self._left:
            return False
        topic_id = self._left.pop(position)
        return topic_id is None or record.topic_id in {None, topic_id}

    def _is_meant(self, attempt: Attempt) -> bool:
        return bool(attempt.get("status") == "skipped" and attempt.get("reason") == _PAUSED)


@final
class DeliveredEvents(NamedEvents):
    """Those of attempts that delivered, made within a time."""

    def __init__(self, topic: str, destination: str, since_ms: int, until_ms: int) -> None:
        """From ``since_ms`` on and before ``until_ms``, epoch milliseconds."""
        super().__init__(topic, destination)
        self._since_ms = since_ms
        self._until_ms = until_ms

    def _is_meant(self, attempt: Attempt) -> bool:
        return attempt.get("status") == "delivered" and self._since_ms <= attempt.at_ms < self._until_ms
