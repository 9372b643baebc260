"""States of cursors: the destinations that are behind, and all that may happen to their partitions meanwhile."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from typing import final

from pushrail_stream.core import signals
from pushrail_stream.core.record import Partition
from tests.simulation.oracle.commit_cursors import CursorSeen, read_cursors, snapshot_place
from tests.simulation.oracle.scene import Scene
from tests.simulation.states.declaration import state

_NONE: Mapping[str, CursorSeen] = {}


@final
class _Cursors:
    """The cursors that the commits of each partition named over time."""

    def __init__(self, scene: Scene) -> None:
        self._times: dict[Partition, list[float]] = defaultdict(list)
        self._named: dict[Partition, list[Mapping[str, CursorSeen]]] = defaultdict(list)
        for commit in scene.evidence.commits:
            self._times[commit.partition].append(commit.at)
            self._named[commit.partition].append(read_cursors(commit.committable))

    def named(self, partition: Partition, at: float) -> Mapping[str, CursorSeen]:
        """Those of the last commit before this time."""
        index = bisect_right(self._times.get(partition, []), at) - 1
        return self._named[partition][index] if index >= 0 else _NONE

    def all_named(self, at: float) -> list[tuple[Partition, str]]:
        """Those of the last commits before this time: partition and destination."""
        return [(partition, name) for partition in self._times for name in self.named(partition, at)]


@lru_cache(maxsize=1)
def _cursors_of(scene: Scene) -> _Cursors:
    return _Cursors(scene)


@state("cursor opened")
def _(scene: Scene) -> int:
    """A destination falls behind, and gets a cursor on a partition."""
    return sum(1 for _ in scene.signals(signals.CursorOpened))


@state("cursor handed over")
def _(scene: Scene) -> int:
    """A cursor reaches the live reader."""
    return sum(one.why == "caught_up" for _, _, one in scene.signals(signals.CursorClosed))


@state("cursor opened by two destinations of a partition")
def _(scene: Scene) -> int:
    """A commit names two cursors or more."""
    return sum(len(read_cursors(commit.committable)) > 1 for commit in scene.evidence.commits)


@state("cursor with open offsets below the place that it has read to")
def _(scene: Scene) -> int:
    """A commit names events that a cursor has read and not settled, while later ones have settled."""
    named = (one for commit in scene.evidence.commits for one in read_cursors(commit.committable).values())
    return sum(bool(one.open) for one in named)


@state("cursor found by the next owner")
def _(scene: Scene) -> int:
    """A worker gets a partition whose last commit names a cursor."""
    found = 0
    for at, _, assigned in scene.signals(signals.PartitionsAssigned):
        found += sum(bool(_cursors_of(scene).named(partition, at)) for partition, _ in assigned.partitions)
    return found


@state("cursor in a snapshot")
def _(scene: Scene) -> int:
    """A commit names the place of a snapshot of its cursors."""
    return sum(snapshot_place(commit.committable) is not None for commit in scene.evidence.commits)


@state("cursor in a snapshot that the next owner reads")
def _(scene: Scene) -> int:
    """A worker gets a partition whose last commit names a snapshot."""
    found = 0
    for at, _, assigned in scene.signals(signals.PartitionsAssigned):
        for partition, _ in assigned.partitions:
            made = [one.committable for one in scene.evidence.commits if one.partition == partition and one.at <= at]
            found += bool(made) and snapshot_place(made[-1]) is not None
    return found


@state("cursor open at a revoke")
def _(scene: Scene) -> int:
    """A worker gives a partition up that has a cursor."""
    revoked = ((at, one) for at, _, one in scene.signals(signals.PartitionsRevoked) if not one.lost)
    return sum(bool(_cursors_of(scene).named(partition, at)) for at, one in revoked for partition in one.partitions)


@state("cursor open when its partition is lost")
def _(scene: Scene) -> int:
    """A worker learns that a partition with a cursor has been taken away."""
    lost = ((at, one) for at, _, one in scene.signals(signals.PartitionsRevoked) if one.lost)
    return sum(bool(_cursors_of(scene).named(partition, at)) for at, one in lost for partition in one.partitions)


@state("cursor open at a kill")
def _(scene: Scene) -> int:
    """A worker is killed that owns a partition with a cursor."""
    owned = [(host, partition, since, until) for partition, host, since, until in scene.ownerships()]
    return sum(
        bool(_cursors_of(scene).named(partition, at))
        for at, _, host in scene.disturbances("killed")
        for owner, partition, since, until in owned
        if owner == host and since <= at <= until
    )


@state("cursor open while Kafka is in trouble")
def _(scene: Scene) -> int:
    """Brokers or the network fail while a destination is behind."""
    return sum(bool(_cursors_of(scene).all_named(at)) for at, _, _ in scene.disturbances("kafka"))


@state("cursor open when its log loses records")
def _(scene: Scene) -> int:
    """Kafka loses or removes events that a cursor has."""
    found = 0
    for seen in scene.story.events:
        at, record = seen.written.gone_at, seen.written.record
        if at is not None:
            named = _cursors_of(scene).named(Partition(record.topic, record.partition), at)
            found += any(one.covers(record.offset) for one in named.values()) and scene.is_covered(seen.written, at)
    return found


@state("cursor's events removed by retention")
def _(scene: Scene) -> int:
    """A cursor finds that Kafka has removed records which it had not read."""
    return sum(1 for _ in scene.signals(signals.CursorTrimmed))


@state("cursor closed with its topic")
def _(scene: Scene) -> int:
    """A cursor ends because its topic was created again."""
    return sum(one.why == "recreated" for _, _, one in scene.signals(signals.CursorClosed))


@state("cursor in a log that was cut off")
def _(scene: Scene) -> int:
    """A worker notices that a log was cut off while a destination is behind on it."""
    restarts = ((at, one) for at, _, one in scene.signals(signals.PartitionRestarted) if one.why == "went_back")
    return sum(bool(_cursors_of(scene).named(one.partition, at)) for at, one in restarts)


@state("cursor in a commit that a tool has moved")
def _(scene: Scene) -> int:
    """A tool commits another offset and keeps the metadata, with cursors."""
    return sum(not commit.host and bool(read_cursors(commit.committable)) for commit in scene.evidence.commits)


@state("cursor cleared by a tool")
def _(scene: Scene) -> int:
    """A tool commits an offset without metadata where a destination is behind."""
    tools = (commit for commit in scene.evidence.commits if not commit.host)
    return sum(
        bool(_cursors_of(scene).named(commit.partition, commit.at - 1e-6)) and not read_cursors(commit.committable)
        for commit in tools
    )


@state("cursor whose document changes")
def _(scene: Scene) -> int:
    """The document of a destination is edited, disabled or deleted while the destination is behind."""
    return sum(
        any(name == edit.name for _, name in _cursors_of(scene).all_named(edit.at)) for edit in scene.evidence.edits
    )
