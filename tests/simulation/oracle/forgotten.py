"""A commit forgets nothing: what a cursor had delivered by one commit is not delivered again by the next owner.

A cursor never goes back, and it stays until the commit has reached its end. Kafka's losses and tools excuse a commit.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Final

from pushrail_stream.core.signals import PartitionRestarted
from tests.simulation.oracle.commit_cursors import CursorSeen, read_cursors
from tests.simulation.oracle.commit_map import read_map
from tests.simulation.oracle.covers import Log, log_of
from tests.simulation.oracle.deliveries import Deliveries
from tests.simulation.oracle.evidence import Commit, Violation

ASSERTION: Final = "a commit forgets no delivery"
_EXCUSES: Final = frozenset({"operator", "log"})
"""Disturbances after which a cursor may begin anew."""


def find_forgotten(story: Deliveries) -> Iterator[Violation]:
    """A violation for each cursor that went back, or that ended too early, between two commits of workers."""
    last: dict[Log, Commit] = {}
    for commit in story.evidence.commits:
        before, last[log_of(commit)] = last.get(log_of(commit)), commit
        if before is None or not (before.host and commit.host):
            continue
        cursors = read_cursors(commit.committable)
        for name, old in read_cursors(before.committable).items():
            why = _ended_early(old, commit) if name not in cursors else _went_back(old, cursors[name])
            if why and not _is_excused(story, before, commit):
                sentence = (
                    f"{commit.host} committed {commit.partition} at {commit.committable.offset} at {commit.at:.3f}, "
                    f"where the cursor of {name} {why}"
                )
                yield Violation(ASSERTION, sentence, commit.at)


def _ended_early(old: CursorSeen, commit: Commit) -> str:
    """The end of a cursor, if the commit is below it: the live reader would deliver the events between again."""
    end = old.next if old.to is None else old.to
    return f"ended, which had the events below {end}" if max(old.since, commit.committable.offset) < end else ""


def _went_back(old: CursorSeen, new: CursorSeen) -> str:
    """The place to which a cursor went back, if it did."""
    if new.next < old.next:
        return f"was at {old.next}, and is at {new.next}"
    again = [one for one in sorted(new.open) if old.since <= one < old.next and not _has(old, one)]
    return f"had delivered {again[0]}, and has it again" if again else ""


def _has(cursor: CursorSeen, offset: int) -> bool:
    """Whether an offset below the cursor's place is open, or was the live reader's."""
    return offset in cursor.open or any(first <= offset < end for first, end in cursor.live)


def _is_excused(story: Deliveries, before: Commit, commit: Commit) -> bool:
    evidence = story.evidence
    if read_map(before.committable).epoch != read_map(commit.committable).epoch:
        return True  # a leader was elected, and the log may have lost its end
    disturbed = (
        (one.at, one.until) for one in evidence.disturbances
        if one.kind in _EXCUSES and one.partition in {None, commit.partition}
    )  # fmt: skip
    restarted = (
        (one.at, one.at) for one in evidence.signals
        if isinstance(one.signal, PartitionRestarted) and one.signal.partition == commit.partition
    )  # fmt: skip
    return any(at <= commit.at and until >= before.at for at, until in chain(disturbed, restarted))
