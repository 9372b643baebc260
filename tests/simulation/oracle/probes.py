"""A destination that refuses calls in a row is suspended, gets only probes then, and resumes with the first success."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from pushrail_stream.core.signals import RegistryChanged, Resumed, Suspended
from tests.simulation.oracle.deliveries import Deliveries
from tests.simulation.oracle.evidence import Call, Violation

ASSERTION: Final = "a destination that refuses calls gets only probes"
FIRST_PROBE_SECS: Final = 30.0
"""Longest time in seconds until the first probe. Each failed one doubles it, up to `LONGEST_PROBE_SECS`."""
LONGEST_PROBE_SECS: Final = 600.0
_ROUNDING_SECS: Final = 0.001
"""A difference of two times in seconds may be off by less than this."""
_SUSPEND_AFTER: Final = 5
"""Refused attempts in a row after which a destination is suspended."""
_REFUSED_CALLS: Final = 2 * _SUSPEND_AFTER
"""Refused calls in a row after which a destination is suspended: an attempt may call again with a new session."""
_PROBE_SECS: Final = 10.0
"""Longest time in seconds between the first and the last call of one probe."""
_APART_SECS: Final = 25.0
"""Shortest time in seconds between two probes, less the time that a call takes."""
_WINDOW_SECS: Final = 5.0
"""Time in seconds in which calls to a destination are counted: no two probes are that close."""


def find_wrong_probes(story: Deliveries) -> Iterator[Violation]:
    """A violation for each probe that is none, or that comes too late, and for each missing suspension."""
    yield from _find_late_probes(story)
    yield from _find_batches(story)
    yield from _find_unsuspended(story)
    yield from _find_crowded_probes(story)


def _find_late_probes(story: Deliveries) -> Iterator[Violation]:
    failed: dict[tuple[str, str], int] = {}
    for at, host, signal in story.evidence.signals:
        if not isinstance(signal, Suspended):
            continue
        key = host, signal.destination.id
        failed[key] = 0 if signal.first else failed.get(key, 0) + 1
        most = min(LONGEST_PROBE_SECS, FIRST_PROBE_SECS * 2.0 ** failed[key])
        if signal.probe_in_secs > most + _ROUNDING_SECS:
            sentence = (
                f"{host} probes {signal.destination.id} in {signal.probe_in_secs:.0f} s at {at:.3f}, not {most:.0f} s"
            )
            yield Violation(ASSERTION, sentence, at)


def _find_batches(story: Deliveries) -> Iterator[Violation]:
    """Calls with several entries to a destination that is suspended on that host."""
    suspended: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for at, host, signal in story.evidence.signals:
        if isinstance(signal, Suspended) and signal.first:
            suspended[host, story.documents.group(signal.destination.id)].append((at, float("inf")))
        elif isinstance(signal, Resumed):
            periods = suspended[host, story.documents.group(signal.destination.id)]
            periods[-1:] = [(since, at) for since, _ in periods[-1:]]
    for (host, group), periods in suspended.items():
        for call in story.calls_of.get(group, ()) if len(story.documents.members(group)) == 1 else ():
            is_late = any(since + 1.0 < call.at < until for since, until in periods)
            if call.host == host and is_late and len(call.entries) > 1:
                sentence = f"{host} sent {len(call.entries)} entries to {group} at {call.at:.3f}, which is suspended"
                yield Violation(ASSERTION, sentence, call.at)


def _find_unsuspended(story: Deliveries) -> Iterator[Violation]:
    """Hosts that go on to call a destination which refuses everything."""
    for group, calls in story.calls_of.items():
        by_host: dict[str, list[Call]] = defaultdict(list)
        for call in calls:
            if call.api == "PutEvents":
                by_host[call.host].append(call)
        # A refused session is renewed and the call made once more; calls in flight come back after the suspension.
        most = 2 * (
            _SUSPEND_AFTER + sum(story.documents.call_limits(group, story.evidence.settings.delivery.max_in_flight))
        )
        for host, made in by_host.items():
            if (at := _too_many(made, most)) is not None:
                sentence = f"{host} goes on to call {group} at {at:.3f}, after {most} refusals in a row"
                yield Violation(ASSERTION, sentence, at)


def _find_crowded_probes(story: Deliveries) -> Iterator[Violation]:
    """Calls to a suspended destination that are no probes. Operators may ask for probes at any time."""
    if story.evidence.retries_asked_for or any(copy.headers.replay is not None for copy in story.copies):
        return
    changes = _changes(story)
    made: dict[tuple[str, str], list[Call]] = defaultdict(list)
    for group, calls in story.calls_of.items():
        for call in calls if len(story.documents.members(group)) == 1 else ():
            if call.api == "PutEvents":
                made[call.host, group].append(call)
    for (host, group), calls in made.items():
        if (at := _crowded(calls, changes[host, group])) is not None:
            sentence = f"{host} calls {group} at {at:.3f}, shortly after the last probe, although it refuses all"
            yield Violation(ASSERTION, sentence, at)


def _changes(story: Deliveries) -> dict[tuple[str, str], list[float]]:
    """By host and group: the times at which the host learned of changed documents."""
    changes: dict[tuple[str, str], list[float]] = defaultdict(list)
    for at, host, signal in story.evidence.signals:
        if isinstance(signal, RegistryChanged):
            for destination in (*signal.put, *signal.removed):
                changes[host, story.documents.group(destination)].append(at)
    return changes


def _crowded(calls: list[Call], changes: list[float]) -> float | None:
    """The time of a call that a suspension should have kept back."""
    refused, suspended_at, probe_at, last_at = 0, 0.0, 0.0, float("-inf")
    for ended_at, call in sorted(((call.answered_at or call.at, call) for call in calls), key=lambda pair: pair[0]):
        is_changed = any(last_at <= at <= ended_at for at in changes)
        last_at = ended_at
        if is_changed or not _is_refused(call):
            refused = 0
            continue
        refused += 1
        if refused == _REFUSED_CALLS:
            suspended_at, probe_at = ended_at + 1.0, float("-inf")
        elif refused > _REFUSED_CALLS and call.at > suspended_at:
            if call.at > probe_at + _APART_SECS:
                probe_at = call.at
            elif call.at > probe_at + _PROBE_SECS:
                return call.at
    return None


def _is_refused(call: Call) -> bool:
    return call.fault == "customer" and call.is_clear and not call.entries_taken


def _too_many(calls: list[Call], most: int) -> float | None:
    refused: list[float] = []
    for call in calls:
        if _is_refused(call):
            refused.append(call.at)
            if len(refused) > most and refused[-1] - refused[-1 - most] < _WINDOW_SECS:
                return call.at
        else:
            refused.clear()
    return None
