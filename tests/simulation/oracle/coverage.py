"""Coverage: the records that commits covered at any moment, and the moments at which others were forgotten."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from typing import Final, final

from pushrail_stream.core.record import Partition
from tests.simulation.oracle.commit_map import read_map
from tests.simulation.oracle.covers import log_of
from tests.simulation.oracle.evidence import Commit, Disturbance, Evidence, Written

_FORGETTING: Final = frozenset({"killed", "paused", "expelled", "kafka", "commit", "failed"})
"""Disturbances after which what was not committed is read again."""


@final
class Coverage:
    """Answers from the commits and the disturbances of a story."""

    def __init__(self, evidence: Evidence) -> None:
        self._times: dict[tuple[Partition, str | None], list[float]] = defaultdict(list)
        self._commits: dict[tuple[Partition, str | None], list[Commit]] = defaultdict(list)
        for commit in evidence.commits:
            self._times[log_of(commit)].append(commit.at)
            self._commits[log_of(commit)].append(commit)
        self._losses = [one for one in evidence.disturbances if one.kind in _FORGETTING]
        self._of: dict[str, list[Disturbance]] = {}
        workers = {call.host for call in evidence.calls} | {end.host for end in evidence.worker_ends}
        self.hosts_of_commands = {one.host for one in evidence.written} - workers
        """Hosts that wrote records and never ran a worker: those of operators' commands."""

    def covers(self, one: Written, at: float) -> bool:
        """Whether a worker that started at this moment would have known that this record was settled."""
        log = Partition(one.record.topic, one.record.partition), one.record.topic_id
        index = bisect_right(self._times.get(log, []), at) - 1
        if index < 0:
            return False
        committed = self._commits[log][index].committable
        return one.record.offset < committed.offset or one.record.offset in read_map(committed).settled

    def losses_of(self, host: str) -> list[Disturbance]:
        """The moments at which this host may have forgotten what it had not committed."""
        found = self._of.get(host)
        if found is None:
            found = self._of[host] = [one for one in self._losses if one.host in {"", host}]
        return found

    def concerns(self, one: Disturbance, written: Written) -> bool:
        """Whether a disturbance is about this record's partition."""
        return one.partition is None or one.partition == (written.record.topic, written.record.partition)
