"""A worker keeps no more in memory than the settings allow, and makes no larger, no more and no faster calls."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from pushrail_stream.observe.worker_record import WorkerRecord
from pushrail_stream.settings.eventbridge import MAX_ENTRIES
from tests.simulation.oracle.deliveries import Deliveries
from tests.simulation.oracle.evidence import METRICS_PAGE, Call, Violation

ASSERTION: Final = "buffers and calls stay within the settings"
ONE_POLL: Final = 1_000
"""Records that a worker may have beyond its limit: those of the poll that reached it."""
BUFFERED_BYTES: Final = re.compile(r'^pushrail_buffered_bytes\{of="events"\} (\S+)$', re.MULTILINE)
"""The line of a metrics page with the bytes of the events that a worker keeps."""
_RATE_WINDOW_SECS: Final = 10.0
"""Time in seconds in which calls are counted. The ways of the calls differ by less than a tenth of it."""


def find_excess(story: Deliveries) -> Iterator[Violation]:
    """A violation for each limit that was exceeded."""
    evidence = story.evidence
    most, events = evidence.settings.limits.max_buffered_events, evidence.settings.topics.events
    for one in evidence.on(evidence.settings.topics.workers):
        state = WorkerRecord.read(one.record.value or b"")
        held = 0 if state is None else sum(held.open for held in state.partitions if held.topic == events)
        if state is not None and held > most + ONE_POLL:
            yield Violation(
                ASSERTION, f"worker {state.id} held {held} events at {one.at:.3f}; its limit is {most}", one.at
            )
    yield from _find_too_many_bytes(story)
    for call in evidence.calls:
        if call.api == "PutEvents" and len(call.entries) > min(MAX_ENTRIES, evidence.settings.delivery.max_entries):
            yield Violation(ASSERTION, f"the call {call.request_id} had {len(call.entries)} entries", call.at)
    of: dict[tuple[str, str], list[Call]] = defaultdict(list)
    for call in evidence.calls:
        if call.api == "PutEvents" and (group := story.documents.group_of_bus(call.target)) is not None:
            of[call.host, group].append(call)
    for (host, group), calls in of.items():
        yield from _find_crowd(story, host, group, calls)
        yield from _find_haste(story, host, group, calls)


def _find_too_many_bytes(story: Deliveries) -> Iterator[Violation]:
    """Metrics pages that tell of more bytes than the settings allow, and one poll of the largest events beside them."""
    evidence = story.evidence
    most = evidence.settings.limits.max_buffered_mib * 2**20
    sizes = sorted((len(one.record.value or b"") for one in evidence.on(evidence.settings.topics.events)), reverse=True)
    one_poll = sum(sizes[:ONE_POLL])
    for page in evidence.texts:
        if page.where == METRICS_PAGE and (found := BUFFERED_BYTES.search(page.text)) is not None:
            held = float(found[1])
            if held > most + one_poll:
                sentence = f"{page.host} held {held:.0f} bytes of events at {page.at:.3f}; its limit is {most}"
                yield Violation(ASSERTION, sentence, page.at)


def _find_crowd(story: Deliveries, host: str, group: str, calls: list[Call]) -> Iterator[Violation]:
    """Calls of one host to one destination that were open at once, beyond its limit."""
    allowed = sum(story.documents.call_limits(group, story.evidence.settings.delivery.max_in_flight))
    answered = [(call.at, call.answered_at) for call in calls if call.answered_at is not None]
    edges = sorted([(at, 1) for at, _ in answered] + [(until, -1) for _, until in answered])
    open_now = 0
    for at, step in edges:
        open_now += step
        if open_now > allowed:
            yield Violation(ASSERTION, f"{host} had {open_now} calls to {group} at {at:.3f}; {allowed} are allowed", at)
            return


def _find_haste(story: Deliveries, host: str, group: str, calls: list[Call]) -> Iterator[Violation]:
    """Calls of one host to one destination beyond its rate. A lane that has gone forgets its last call."""
    rate = story.documents.rate_limit(group)
    if rate is None:
        return
    most = rate * _RATE_WINDOW_SECS * 1.1 + 3
    first = 0
    for index, call in enumerate(calls):
        while calls[first].at < call.at - _RATE_WINDOW_SECS:
            first += 1
        if index - first + 1 > most:
            sentence = f"{host} made {index - first + 1} calls to {group} in {_RATE_WINDOW_SECS:.0f} s at {call.at:.3f}"
            yield Violation(ASSERTION, f"{sentence}; {rate:g} a second are allowed", call.at)
            return
