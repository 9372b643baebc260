"""A worker keeps no more in memory than the settings allow, and makes no larger calls and not more at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from pushrail_stream.observe.worker_record import WorkerRecord
from pushrail_stream.settings.eventbridge import MAX_ENTRIES
from tests.simulation.oracle.deliveries import Deliveries
from tests.simulation.oracle.evidence import Call, Violation

ASSERTION: Final = "buffers and calls stay within the settings"
ONE_POLL: Final = 1_000
"""Records that a worker may have beyond its limit: those of the poll that reached it, on each of its two consumers."""


def find_excess(story: Deliveries) -> Iterator[Violation]:
    """A violation for each limit that was exceeded."""
    evidence = story.evidence
    most = evidence.settings.limits.max_buffered_events
    for one in evidence.on(evidence.settings.topics.workers):
        state = WorkerRecord.read(one.record.value or b"")
        if state is None:
            continue
        held = sum(
            partition.open for partition in state.partitions if partition.topic == evidence.settings.topics.events
        )
        if held > most + ONE_POLL:
            yield Violation(
                ASSERTION, f"worker {state.id} held {held} events at {one.at:.3f}; its limit is {most}", one.at
            )
    for call in evidence.calls:
        if call.api == "PutEvents" and len(call.entries) > min(MAX_ENTRIES, evidence.settings.delivery.max_entries):
            yield Violation(ASSERTION, f"the call {call.request_id} had {len(call.entries)} entries", call.at)
    yield from _find_crowds(story)


def _find_crowds(story: Deliveries) -> Iterator[Violation]:
    """Calls of one host to one bus that were open at once, beyond the limit of the setting."""
    most = story.evidence.settings.delivery.max_in_flight
    of: dict[tuple[str, str], list[Call]] = defaultdict(list)
    for call in story.evidence.calls:
        if call.api == "PutEvents" and call.answered_at is not None:
            of[call.host, call.target].append(call)
    for (host, target), calls in of.items():
        allowed = max((most, *(limit for limit in story.documents.call_limits(target))))
        edges = sorted([(call.at, 1) for call in calls] + [(call.answered_at or call.at, -1) for call in calls])
        open_now = 0
        for at, step in edges:
            open_now += step
            if open_now > allowed:
                sentence = f"{host} had {open_now} calls to {target} at {at:.3f}; {allowed} are allowed"
                yield Violation(ASSERTION, sentence, at)
                break
