"""The accounts of a worker balance, in each of its records and at its end, and equal what the world saw."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Final

from pushrail_stream.observe.worker_record import WorkerRecord
from tests.simulation.oracle.deliveries import Deliveries
from tests.simulation.oracle.evidence import Violation, WorkerEnd

ASSERTION: Final = "the accounting identity holds"
_ENDS: Final = ("delivered", "deadLettered", "movedToRetry", "skipped", "dropped")


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
            for why in filter(None, (_imbalance(end.ledger, {}), _open(end), *_differences(story, end))):
                yield Violation(ASSERTION, f"worker {end.worker} ended at {end.at:.3f}: {why}", end.at)


def _imbalance(now: Mapping[str, int], before: Mapping[str, int]) -> str:
    ended = sum(now.get(name, 0) for name in _ENDS)
    if now.get("begun", 0) != ended + now.get("inFlight", 0):
        return f"{now.get('begun', 0)} begun, {ended} ended and {now.get('inFlight', 0)} in flight"
    if negative := [name for name, count in now.items() if count < 0]:
        return f"{', '.join(negative)} below 0"
    shrunk = [name for name in ("begun", *_ENDS) if now.get(name, 0) < before.get(name, 0)]
    return f"{', '.join(shrunk)} went down" if shrunk else ""


def _open(end: WorkerEnd) -> str:
    assert end.ledger is not None
    return f"{end.ledger['inFlight']} deliveries in flight" if end.ledger.get("inFlight") else ""


def _differences(story: Deliveries, end: WorkerEnd) -> Iterator[str]:
    """Columns that differ from what buses and Kafka saw of this worker. It runs alone on its host, until its end."""
    assert end.ledger is not None
    earlier = [one.at for one in story.evidence.worker_ends if one.host == end.host and one.at < end.at]
    since = max(earlier, default=0.0)
    seen: dict[str, int] = defaultdict(int)
    for call in story.evidence.calls:
        if call.host == end.host and since < call.at <= end.at and call.answered_at is not None:
            seen["delivered"] += sum(entry.event_id is not None for entry in call.entries)
    for copy in story.copies:
        if copy.written.host == end.host and since < copy.written.at <= end.at:
            if copy.written.acknowledged_at is None:
                return  # the client may have reported it as lost, or not: the world cannot tell
            seen["deadLettered" if copy.is_dead else "movedToRetry"] += 1
    for column in ("delivered", "deadLettered", "movedToRetry"):
        if end.ledger.get(column, 0) != seen[column]:
            yield f"{column} is {end.ledger.get(column, 0)}, and the world saw {seen[column]}"
