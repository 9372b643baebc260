"""The duties of cursors: the deliveries below a commit that had not settled then, because a cursor of it had them.

A cursor has a delivery until it settles. Every later commit that covers the event names a cursor that still has it. A
tool that moves the commit and clears its metadata gives these deliveries up; one that keeps the metadata does not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, final

from pushrail_stream.core.record import Partition
from tests.simulation.oracle.commit_cursors import CursorSeen, read_cursors
from tests.simulation.oracle.covers import Log, cover_of, first_covers, log_of, passes_later
from tests.simulation.oracle.deliveries import Deliveries
from tests.simulation.oracle.evidence import Commit, Written
from tests.simulation.oracle.openness import open_to


class Duty(NamedTuple):
    """One delivery of a cursor."""

    one: Written
    destination: str


class _Clearing(NamedTuple):
    """A tool's commit without cursors that the commit before had."""

    log: Log
    number: int
    """Its place among the commits of the log."""
    cursors: Mapping[str, CursorSeen]


def _log_of(one: Written) -> Log:
    return Partition(one.record.topic, one.record.partition), one.record.topic_id


@final
class Duties:
    """All deliveries of cursors in a story."""

    def __init__(self, story: Deliveries) -> None:
        self.uncovered: list[tuple[Commit, Written, list[str]]] = []
        """The first covers of records that had not settled, with the destinations that no cursor had."""
        self.dropped: list[tuple[Commit, Duty]] = []
        """Commits without a cursor for an event that had not settled, although one before had it."""
        self.taken: list[tuple[float, Duty]] = []
        """The deliveries that a commit left to its cursors, with its time."""
        self._taken: set[tuple[int, str]] = set()
        """The same deliveries, without the time: the record's identity, and the destination."""
        self._story = story
        self._on: dict[Log, list[Duty]] = defaultdict(list)
        self._last: dict[Log, Mapping[str, CursorSeen]] = {}
        """The cursors of the last commit."""
        self._cleared: list[_Clearing] = []
        self._commits: dict[Log, list[Commit]] = defaultdict(list)
        self._moved: set[Log] = set()
        """Logs whose last commit is a tool's."""
        self._follow()

    def _follow(self) -> None:
        evidence = self._story.evidence
        covered: dict[int, list[Written]] = defaultdict(list)
        for commit, one in first_covers(evidence):
            if not passes_later(commit, one):
                covered[id(commit)].append(one)
        for commit in evidence.commits:
            self._keep(commit)
            if commit.host:
                self._take(commit, covered.get(id(commit), ()))

    def were_taken(self, one: Written, destination: str) -> bool:
        """Whether a commit has left the delivery to a cursor."""
        return (id(one), destination) in self._taken

    def waits(self, one: Written, destination: str) -> bool:
        """Whether a cursor has the delivery when the story ends."""
        cursor = self._last.get(_log_of(one), {}).get(destination)
        return cursor is not None and cursor.covers(one.record.offset)

    def is_given_up(self, one: Written, destination: str) -> bool:
        """Whether a tool has cleared the cursor that had the delivery.

        The same tool or a later one also passes the record, before a worker's commit does: from a place below the
        record, workers read it again for every destination.
        """
        return any(
            clearing.log == _log_of(one)
            and destination in clearing.cursors
            and clearing.cursors[destination].covers(one.record.offset)
            and self._is_passed_by_tool(one, clearing)
            for clearing in self._cleared
        )

    def _is_passed_by_tool(self, one: Written, clearing: _Clearing) -> bool:
        """Whether the first commit from the clearing on that covers the record is a tool's."""
        later = self._commits[clearing.log][clearing.number :]
        first = next((commit for commit in later if cover_of(commit)(one)), None)
        return first is not None and not first.host

    def _take(self, commit: Commit, records: Sequence[Written]) -> None:
        """Look at the records that this commit is the first to cover."""
        cursors = read_cursors(commit.committable)
        for one in records:
            found = open_to(self._story, one, commit.at)
            kept = [name for name in found if name in cursors and cursors[name].covers(one.record.offset)]
            self._on[log_of(commit)] += [Duty(one, name) for name in kept]
            self.taken += [(commit.at, Duty(one, name)) for name in kept]
            self._taken |= {(id(one), name) for name in kept}
            if left := [name for name in found if name not in kept]:
                self.uncovered.append((commit, one, left))

    def _keep(self, commit: Commit) -> None:
        """Look at the deliveries that cursors of earlier commits had."""
        log, cursors = log_of(commit), read_cursors(commit.committable)
        before, self._last[log] = self._last.get(log, {}), cursors
        self._commits[log].append(commit)
        if not commit.host and (cleared := {name: one for name, one in before.items() if name not in cursors}):
            self._cleared.append(_Clearing(log, len(self._commits[log]) - 1, cleared))
        duties = self._on.get(log)
        if not duties or (commit.host and log not in self._moved and before == cursors):
            return
        self._moved = self._moved - {log} if commit.host else self._moved | {log}
        covers, kept = cover_of(commit), []
        for duty in duties:
            cursor = cursors.get(duty.destination)
            if not covers(duty.one) or (cursor is not None and cursor.covers(duty.one.record.offset)):
                kept.append(duty)
            elif not commit.host:
                kept += [duty] * (cursor is not None)  # the next owner finds the cursor's place anew
            elif self._is_open(duty, commit.at):
                self.dropped.append((commit, duty))
        self._on[log] = kept

    def _is_open(self, duty: Duty, at: float) -> bool:
        one, destination = duty
        is_gone = one.gone_at is not None and one.gone_at <= at
        return not is_gone and destination in open_to(self._story, one, at)


@lru_cache(maxsize=1)
def duties_of(story: Deliveries) -> Duties:
    """The duties of a story's cursors."""
    return Duties(story)
