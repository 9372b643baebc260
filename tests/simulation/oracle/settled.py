"""After the last fault everything settles within a stated virtual time, and no healthy destination stays suspended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pushrail_stream.core.record import Partition
from pushrail_stream.core.signals import PartitionsAssigned
from pushrail_stream.observe.worker_record import WorkerRecord
from tests.simulation.oracle.commit_cursors import read_cursors
from tests.simulation.oracle.covers import Log, log_of
from tests.simulation.oracle.deliveries import CopySeen, Deliveries
from tests.simulation.oracle.evidence import UNHEALED, Commit, Evidence, Violation, position_of
from tests.simulation.oracle.probes import LONGEST_PROBE_SECS

ASSERTION: Final = "after the last fault everything settles"
REST_SECS: Final = 240.0
"""Time beyond the retry topics' delays: a session of a dead member, a rebalance, a probe and the work itself."""
_LIMIT_SHARE: Final = 0.8
"""Least share of the allowed calls that a destination gets when it works at its limit: a call may wait for an answer,
and the last seconds of a story belong to the stop of its workers."""
_BAD: Final = frozenset({"blocked", "suspended", "gone"})


def settle_secs(evidence: Evidence) -> float:
    """The longest time that a healed world needs. A delivery may wait twice on the last retry topic."""
    delays = evidence.settings.topics.retry.values()
    return sum(delays) + max(delays) + evidence.settings.delivery.hold_secs + REST_SECS


def is_at_limit(story: Deliveries, destination: str, turns: float = 1.0) -> bool:
    """Whether a destination got nearly all calls that its documents allow, long after the world had healed.

    The rule: a destination settles within the stated time, or it works at its own limit until the story ends. A
    customer may allow two calls a second. A backlog, and the repeats after a kill, then need more time than a story
    has. The limit is that of the documents in force in the stated time: an operator may have lowered it before.
    ``turns``: the share of the time in which the worker has its deliveries in memory.
    """
    evidence, group, secs = story.evidence, story.documents.group(destination), settle_secs(story.evidence)
    since = evidence.ended_at - secs
    rate = story.documents.rate_limit(group, since)
    if rate is None or since < evidence.healed_at:
        return False
    calls = (call for call in story.calls_of.get(group, ()) if call.api == "PutEvents" and call.at >= since)
    return sum(1 for _ in calls) >= _LIMIT_SHARE * turns * rate * secs


def is_waiting(story: Deliveries, copy: CopySeen) -> bool:
    """Whether a copy waits on a retry topic when the story ends."""
    is_there = not copy.is_dead and copy.written.is_readable and copy.written.gone_at is None
    return is_there and story.covered_at(copy.written) == float("inf")


def find_unfinished(story: Deliveries) -> Iterator[Violation]:
    """A violation for each record that no commit covers in time, and for each healthy destination that gets nothing."""
    evidence = story.evidence
    due = evidence.healed_at + settle_secs(evidence)
    if evidence.healed_at == UNHEALED or evidence.ended_at < due:
        return
    wanted = {evidence.settings.topics.events, *evidence.retry_topics}
    for one in evidence.written:
        if one.record.topic not in wanted or one.gone_at is not None or one.at > evidence.healed_at:
            continue
        if story.covered_at(one) > due:
            sentence = (
                f"the record at {position_of(one.origin)}, written at {one.at:.3f}, is not committed at {due:.3f}"
            )
            yield Violation(ASSERTION, sentence, due)
    yield from _find_lag(story)
    yield from _find_open_cursors(story)
    yield from _find_suspended(story)


def _find_lag(story: Deliveries) -> Iterator[Violation]:
    """Partitions whose last commit is below the end of the log, markers included."""
    last = _last_commits(story)
    written = {
        (Partition(one.record.topic, one.record.partition), one.record.topic_id) for one in story.evidence.written
    }
    for log, end in story.evidence.log_ends.items():
        wanted = {story.evidence.settings.topics.events, *story.evidence.retry_topics}
        committed = last[log].committable.offset if log in last else 0
        if log in written and log[0].topic in wanted and committed < end and not _is_behind_limits(story, log):
            sentence = f"{log[0]} is committed at {committed}, and its end is {end}"
            yield Violation(ASSERTION, sentence, story.evidence.ended_at)


def _find_open_cursors(story: Deliveries) -> Iterator[Violation]:
    """Cursors that the last commits name, of destinations that may get more calls.

    A log that has lost its end tells a worker so with its next record. Until then, a cursor waits for lost records.
    """
    for log, commit in _last_commits(story).items():
        end = story.evidence.log_ends.get(log)
        if end is None:
            continue  # the topic was deleted
        is_cut_off = commit.committable.offset > end
        for destination, cursor in read_cursors(commit.committable).items():
            has_all = is_cut_off and cursor.next >= end and not any(offset < end for offset in cursor.open)
            if not has_all and not is_at_limit(story, destination):
                sentence = f"{destination} still has a cursor on {log[0]} in the commit at {commit.at:.3f}"
                yield Violation(ASSERTION, sentence, story.evidence.ended_at)


def _is_behind_limits(story: Deliveries, log: Log) -> bool:
    """Whether all that is open in a log are copies for destinations that work at their limit."""
    waiting = {
        (copy.headers.destination or "", copy.headers.reason)
        for copy in story.copies
        if is_waiting(story, copy) and log == (Partition(*copy.written.origin[:2]), copy.written.record.topic_id)
    }
    return bool(waiting) and all(may_wait(story, destination, reason) for destination, reason in waiting)


def may_wait(story: Deliveries, destination: str, reason: str) -> bool:
    """Whether a copy may wait on a retry topic when the story ends.

    A delivery that only waits for its turn is in memory for as long as it may hold its partition's commit, and then on
    the retry topic with the shortest delay. A destination gets no call while all its deliveries are on that topic.
    """
    evidence = story.evidence
    hold_secs, delay_secs = evidence.settings.delivery.hold_secs, min(evidence.settings.topics.retry.values())
    turns = hold_secs / (hold_secs + delay_secs) if reason == "held" else 1.0
    return is_at_limit(story, destination, turns)


def _last_commits(story: Deliveries) -> dict[Log, Commit]:
    """The last commit of each log.

    A worker that has a partition does not see that a tool moves the offset back behind it. Its own commit counts until
    the group assigns the partition again.
    """
    last: dict[Log, Commit] = {}
    for commit in story.evidence.commits:
        if commit.host or log_of(commit) not in last or _is_assigned_after(story, commit):
            last[log_of(commit)] = commit
    return last


def _is_assigned_after(story: Deliveries, commit: Commit) -> bool:
    return any(
        seen.at > commit.at and any(partition == commit.partition for partition, _ in seen.signal.partitions)
        for seen in story.evidence.signals
        if isinstance(seen.signal, PartitionsAssigned)
    )


def _find_suspended(story: Deliveries) -> Iterator[Violation]:
    evidence = story.evidence
    last: dict[str, WorkerRecord] = {}
    for one in evidence.on(evidence.settings.topics.workers):
        name = (one.record.key or b"").decode(errors="replace")
        state = WorkerRecord.read(one.record.value or b"")
        if state is None:
            last.pop(name, None)
        else:
            last[name] = state
    ended = {end.worker for end in evidence.worker_ends}
    broken = {group for bus in evidence.broken_buses for group in story.documents.groups_behind(bus)}
    for state in last.values():
        for shown in state.destinations if state.id not in ended else ():
            is_healthy = story.documents.group(shown.id) not in broken
            is_healthy = is_healthy and not story.documents.was_unusable(shown.id, evidence.ended_at)
            if shown.state in _BAD and is_healthy and _had_a_chance(story, shown.id):
                sentence = f"worker {state.id} still has {shown.id} as {shown.state} ({shown.last_error})"
                yield Violation(ASSERTION, sentence, evidence.ended_at)


def _had_a_chance(story: Deliveries, destination: str) -> bool:
    """Whether a call succeeded after the world had healed, or the longest pause between two probes has passed."""
    evidence = story.evidence
    calls = story.calls_of.get(story.documents.group(destination), ())
    is_good = any(call.is_good and call.at > evidence.healed_at for call in calls if call.api == "PutEvents")
    return is_good or evidence.ended_at > evidence.healed_at + LONGEST_PROBE_SECS + evidence.settings.delivery.hold_secs
