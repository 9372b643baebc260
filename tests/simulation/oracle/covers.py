"""Covers: the first commit that covered each record of the events and the retry topics.

A commit names a leader epoch, and its map another one. After an unclean election other records take offsets that it
names, in a later epoch. A consumer that resumes from the commit learns from Kafka that the epoch ended below, and reads
them: the commit does not cover them.

A blind commit names no epoch. Each commit of a tool is blind. A worker's is while the worker has stepped over records
that nothing can read, and has read none before them: Kafka's client tells an epoch only with a record. Kafka then says
nothing of a loss, so a blind commit covers also records that later take the offsets of lost ones below it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from pushrail_stream.core.record import Partition
from tests.simulation.oracle.commit_map import read_map
from tests.simulation.oracle.evidence import Commit, Evidence, Written

Log = tuple[Partition, str | None]
"""One partition of one topic, by the topic's id: a topic that was created again is another one."""


def first_covers(evidence: Evidence) -> Iterator[tuple[Commit, Written]]:
    """Each record of the events and the retry topics with the first commit that covered it, in the order of time.

    A record that was lost before a commit covered it has none. A blind commit covers also records that are written
    after it below its offset, until a worker has read on from there.
    """
    wanted = {evidence.settings.topics.events, *evidence.retry_topics}
    waiting: dict[Log, list[Written]] = defaultdict(list)
    for one in evidence.written:
        if one.record.topic in wanted:
            waiting[Partition(one.record.topic, one.record.partition), one.record.topic_id].append(one)
    uncovered: dict[Log, dict[int, Written]] = defaultdict(dict)
    begun: dict[Log, int] = defaultdict(int)
    moved: dict[Log, Commit] = {}
    for commit in evidence.commits:
        log = log_of(commit)
        records, open_ones = waiting[log], uncovered[log]
        while begun[log] < len(records) and records[begun[log]].at <= commit.at:
            one = records[begun[log]]
            begun[log] += 1
            if _is_below(moved.get(log), one):
                yield moved[log], one
            else:
                open_ones[one.record.offset] = one  # after a truncation, another record has the offset
        covers = cover_of(commit)
        for number in [number for number, one in open_ones.items() if covers(one)]:
            one = open_ones.pop(number)
            if one.gone_at is None or one.gone_at > commit.at:
                yield commit, one
        _note_move(moved, commit, records[: begun[log]])


def passes_later(commit: Commit, one: Written) -> bool:
    """Whether this blind commit covers a record that took its offset after the commit."""
    return commit.at < one.at


def _is_below(blind: Commit | None, one: Written) -> bool:
    """Whether a record took an offset below a blind commit."""
    return blind is not None and blind.at < one.at and one.record.offset < blind.committable.offset


def _is_blind(commit: Commit, records: Sequence[Written]) -> bool:
    """Whether nobody could name a leader epoch. ``records``: those that were written to the log before."""
    if not commit.host:
        return True
    is_named = commit.epoch >= 0 or read_map(commit.committable).epoch is not None
    if is_named or log_of(commit) != (commit.partition, commit.topic_id):
        return False
    return not any(one.is_readable and one.record.offset < commit.committable.offset for one in records)


def _note_move(moved: dict[Log, Commit], commit: Commit, records: Sequence[Written]) -> None:
    """Note a blind commit until a worker has read on from there, so that it knows the leader epoch."""
    log = commit.partition, commit.topic_id
    if _is_blind(commit, records):
        moved[log] = commit
    elif log in moved and (commit.epoch >= 0 or commit.committable.offset > moved[log].committable.offset):
        del moved[log]


def cover_of(commit: Commit) -> Callable[[Written], bool]:
    """The test whether a consumer that resumes from this commit leaves out a record of its log."""
    end, epoch = commit.committable.offset, commit.epoch
    topic_id, settled, map_epoch = read_map(commit.committable)
    if topic_id != commit.topic_id and not commit.host:
        settled = frozenset()  # a tool has carried the map from another log

    def covers(one: Written) -> bool:
        offset = one.record.offset
        if offset < end:
            return epoch < 0 or one.epoch <= epoch
        return offset in settled and (map_epoch is None or one.epoch <= map_epoch)

    return covers


def log_of(commit: Commit) -> Log:
    """The log that a commit is about. A worker's metadata names it. A tool moves offsets of the present topic.

    The metadata of a tool's commit may have been carried from another cluster.
    """
    named = read_map(commit.committable).topic_id if commit.host else None
    return commit.partition, named or commit.topic_id
