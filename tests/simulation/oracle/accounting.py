"""The accounts of a worker balance, in each of its records and at its end, and equal what the world saw."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Final

from pushrail_stream.core.signals import PartitionsRevoked
from pushrail_stream.observe.worker_record import WorkerRecord
from tests.simulation.oracle.deliveries import Deliveries
from tests.simulation.oracle.evidence import Violation, WorkerEnd

ASSERTION: Final = "the accounting identity holds"
DRAIN_SECS: Final = 60.0
"""Time in seconds after a trouble of Kafka in which a worker that stops may leave copies unwritten."""
_COLUMNS: Final = {
    "delivered": "delivered",
    "deadLettered": "dead_lettered",
    "movedToRetry": "moved_to_retry",
    "skipped": "skipped",
    "putBack": "put_back",
    "dropped": "dropped",
}
"""The ends of deliveries: as a worker's record names them, and as the ledger does."""


def find_imbalance(story: Deliveries) -> Iterator[Violation]:
    """A violation for each account that does not balance."""
    last: dict[str, Mapping[str, int]] = {}
    for one in story.evidence.on(story.evidence.settings.topics.workers):
        state = WorkerRecord.read(one.record.value or b"")
        if state is None:
            continue
        before = last.get(state.id, {})
        last[state.id] = state.deliveries
        if why := _imbalance(state.deliveries, before):
            yield Violation(ASSERTION, f"worker {state.id} reported at {one.at:.3f}: {why}", one.at)
    for end in story.evidence.worker_ends:
        if end.how == "stopped" and end.ledger is not None:
            is_hindered = story.evidence.has_kafka_weather or any(
                one.at <= end.at <= one.until + DRAIN_SECS and one.kind == "kafka"
                for one in story.evidence.disturbances
            )
            left = () if is_hindered else _open(end.ledger)
            for why in (*left, *_differences(story, end, end.ledger)):
                yield Violation(ASSERTION, f"worker {end.worker} ended at {end.at:.3f}: {why}", end.at)


def _imbalance(now: Mapping[str, int], before: Mapping[str, int]) -> str:
    ended = sum(now.get(name, 0) for name in _COLUMNS)
    if now.get("begun", 0) != ended + now.get("inFlight", 0):
        return f"{now.get('begun', 0)} begun, {ended} ended and {now.get('inFlight', 0)} in flight"
    if negative := [name for name, count in now.items() if count < 0]:
        return f"{', '.join(negative)} below 0"
    shrunk = [name for name in ("begun", *_COLUMNS) if now.get(name, 0) < before.get(name, 0)]
    return f"{', '.join(shrunk)} went down" if shrunk else ""


def _open(ledger: Mapping[str, int]) -> Iterator[str]:
    in_flight = ledger["begun"] - sum(ledger[name] for name in _COLUMNS.values())
    if in_flight:
        yield f"{in_flight} deliveries in flight"


def _differences(story: Deliveries, end: WorkerEnd, ledger: Mapping[str, int]) -> Iterator[str]:
    """Columns that differ from what buses and Kafka saw of this worker. Its host runs nothing else."""
    seen: dict[str, int] = defaultdict(int)
    unsure: dict[str, int] = defaultdict(int)
    calls = [call for call in story.evidence.calls if call.host == end.host and call.answered_at is not None]
    for call in calls:
        seen["delivered"] += call.entries_taken
        unsure["delivered"] += call.entries_taken if story.is_overslept(call) else 0
    may_differ = any(call.is_garbled or any(entry.is_swallowed for entry in call.entries) for call in calls)
    columns = [] if may_differ else ["delivered"]
    copies = [copy for copy in story.copies if copy.written.host == end.host]
    if all(copy.written.acknowledged_at is not None for copy in copies):  # otherwise a copy may count or not
        columns += ["dead_lettered", "moved_to_retry"]
        given_back_at = _given_back_at(story, end.host)
        for copy in copies:
            column = "dead_lettered" if copy.is_dead else "moved_to_retry"
            seen[column] += 1
            unsure[column] += (copy.written.acknowledged_at or 0.0) > given_back_at
    for column in columns:
        if not 0 <= seen[column] - ledger[column] <= unsure[column]:
            yield f"{column} is {ledger[column]}, and the world saw {seen[column]}"


def _given_back_at(story: Deliveries, host: str) -> float:
    """The time at which a worker gave its last partitions back: it no longer waits for copies in flight."""
    times = [
        seen.at for seen in story.evidence.signals if seen.host == host and isinstance(seen.signal, PartitionsRevoked)
    ]
    return max(times, default=float("inf"))
