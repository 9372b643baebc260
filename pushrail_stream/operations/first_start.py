"""The first start of a consumer group: without a committed offset, workers would deliver every record there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, final

from pushrail_stream.errors import OperatorError, UsageError
from pushrail_stream.kafka.client_properties import events_consumer, retries_consumer
from pushrail_stream.kafka.groups import Shift, move_group, plan_first_start
from pushrail_stream.kafka.reach import reached_kafka
from pushrail_stream.settings.model import Settings

Start = Literal["earliest", "latest", "refuse"]


@final
class NewGroup(NamedTuple):
    """A group that has never committed an offset, and the records that it would deliver."""

    group_id: str
    topic: str
    """The topic of events."""
    events: int
    """Offsets from the first record on: at least as many as there are records."""
    retries: int
    """The same of the retry topics, whose group is new as well."""

    def __str__(self) -> str:
        waiting = f" and {self.retries:,} of the retry topics" if self.retries else ""
        return (
            f"group {self.group_id} has never committed an offset: {self.events:,} records of {self.topic}{waiting} "
            "would be delivered, also those that another group has delivered"
        )


def find_new_group(settings: Settings) -> NewGroup | None:
    """The group, if it is new and there are records to deliver; else None. Raises `OperatorError`.

    With ``auto.offset.reset: error`` the workers themselves refuse to begin, unless `kafka.start` decides it.
    """
    kafka, topics = reached_kafka(settings), settings.topics
    if kafka.start is None and kafka.client.root.get("auto.offset.reset") == "error":
        return None
    group_id = events_consumer(kafka).group_id
    events = sum(map(_records, plan_first_start(kafka, group_id, [topics.events]).get(topics.events, ())))
    if not events:
        return None
    waiting = plan_first_start(kafka, retries_consumer(kafka).group_id, list(topics.retry))
    return NewGroup(
        group_id, topics.events, events, sum(_records(one) for shifts in waiting.values() for one in shifts)
    )


def _records(shift: Shift) -> int:
    return shift.end - shift.first


def decide_start(settings: Settings, new_group: NewGroup, ask: Callable[[NewGroup], bool] | None) -> str:
    """Decide where the new group begins, by `kafka.start`; the sentence about it, for the log.

    ``ask``: whether to begin at the earliest record, where the setting does not say it and a person can. Raises
    `UsageError` when the group is not to begin, and `OperatorError` when Kafka refuses.
    """
    start: Start = settings.kafka.start or ("earliest" if ask is None or ask(new_group) else "refuse")
    if start == "refuse":
        raise UsageError(
            f"{new_group}. To deliver them: `pushrail-stream run --from-beginning`. To begin after them: "
            "`pushrail-stream replay offsets --to latest`, or kafka.start: latest. If the group has another name: "
            "kafka.group_id"
        )
    if start == "latest":
        _begin_at_end(settings)
        return f"{new_group}. It begins at the end instead (kafka.start: latest)"
    return f"{new_group}. It begins at the earliest"


def _begin_at_end(settings: Settings) -> None:
    """Commit the ends for the new group, so that all its workers agree. Another worker may do the same meanwhile."""
    kafka, topics = reached_kafka(settings), settings.topics
    # The events come last: once they are committed, the group is not new any more.
    for group_id, names in (
        (retries_consumer(kafka).group_id, list(topics.retry)),
        (events_consumer(kafka).group_id, [topics.events]),
    ):
        for name, shifts in plan_first_start(kafka, group_id, names).items():
            try:
                move_group(kafka, group_id, name, shifts)
            except OperatorError:
                if plan_first_start(kafka, group_id, names):
                    raise
