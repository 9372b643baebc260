"""States of workers and their partitions."""

from __future__ import annotations

from itertools import pairwise

from pushrail_stream.core import signals
from tests.simulation.oracle.commit_map import read_map
from tests.simulation.oracle.scene import Scene
from tests.simulation.states.declaration import state

# Rebalances


@state("rebalance while calls are in flight")
def _(scene: Scene) -> int:
    """A worker gives partitions up while it waits for the answers of calls."""
    return sum(1 for at, host, _ in scene.signals(signals.PartitionsRevoked) if scene.in_flight(host, at))


@state("rebalance while a probe is in flight")
def _(scene: Scene) -> int:
    """A worker gives partitions up while a suspended destination is probed."""
    found = 0
    for at, host, _ in scene.signals(signals.PartitionsRevoked):
        probed = {
            group for call in scene.in_flight(host, at) for group in scene.story.documents.groups_behind(call.target)
        }
        found += any(
            seen_host == host and scene.story.documents.group(one.destination.id) in probed and seen_at <= at
            for seen_at, seen_host, one in scene.signals(signals.Suspended)
        )
    return found


@state("partitions lost")
def _(scene: Scene) -> int:
    """A worker learns that its partitions have been taken away."""
    return sum(one.lost for _, _, one in scene.signals(signals.PartitionsRevoked))


@state("two workers own a partition at once")
def _(scene: Scene) -> int:
    """A worker gets a partition while another one still believes to own it."""
    by_partition: dict[object, list[tuple[float, float, str]]] = {}
    for partition, host, since, until in scene.ownerships():
        by_partition.setdefault(partition, []).append((since, until, host))
    pairs = (pair for owners in by_partition.values() for pair in pairwise(sorted(owners)))
    return sum(one[2] != other[2] and other[0] < one[1] for one, other in pairs)


@state("two workers deliver a record at once")
def _(scene: Scene) -> int:
    """A worker delivers an event while another one, frozen or cut off, delivers it too."""
    arrivals = scene.story.arrivals.values()
    return sum(len({one.call.host for one in some}) > 1 for some in arrivals)


@state("commit refused with fencing")
def _(scene: Scene) -> int:
    """Kafka refuses the commit of a worker that is no member of the group any more, or is in an old generation."""
    words = ("generation", "unknown member", "fenced", "stale")
    failed = scene.signals(signals.CommitFailed)
    return sum(any(word in one.problem.lower() for word in words) for _, _, one in failed)


@state("map of settled offsets restored")
def _(scene: Scene) -> int:
    """A partition begins at a commit whose metadata names settled offsets above it."""
    found = 0
    for at, _, assigned in scene.signals(signals.PartitionsAssigned):
        for partition, offset in assigned.partitions:
            made = [one for one in scene.evidence.commits if one.partition == partition and one.at <= at]
            found += (
                bool(made) and made[-1].committable.offset == offset and bool(read_map(made[-1].committable).settled)
            )
    return found


@state("replay during a rebalance")
def _(scene: Scene) -> int:
    """A replay writes a copy within seconds of a change of assignments."""
    replayed = [one.written.at for one in scene.copies() if one.headers.replay and one.headers.attempts == 0]
    return sum(scene.has(signals.PartitionsAssigned, at - 5.0, at + 5.0) for at in replayed)


@state("partition added while workers run")
def _(scene: Scene) -> int:
    """A worker gets a partition that did not exist when the first worker started."""
    numbers = [
        (at, partition.number)
        for at, _, one in scene.signals(signals.PartitionsAssigned)
        for partition, _ in one.partitions
        if partition.topic == scene.evidence.settings.topics.events
    ]
    first = max((number for at, number in numbers if at <= numbers[0][0] + 30.0), default=0)
    return sum(number > first for _, number in numbers)


# Ends of workers


@state("kill between a copy's acknowledgement and its commit")
def _(scene: Scene) -> int:
    """A worker is killed when Kafka has acknowledged a copy, and no commit covers its event yet."""
    found = 0
    for at, _, host in scene.disturbances("killed"):
        for copy in scene.story.copies:
            if copy.written.host == host and (copy.written.acknowledged_at or at) < at <= copy.written.at + 10.0:
                source = scene.source_of(copy)
                found += source is not None and not scene.is_covered(source, at)
    return found


@state("kill while calls are in flight")
def _(scene: Scene) -> int:
    """A worker is killed while it waits for an answer of AWS."""
    return sum(bool(scene.in_flight(host, at)) for at, _, host in scene.disturbances("killed"))


@state("kill between an arrival and its commit")
def _(scene: Scene) -> int:
    """A worker is killed when a bus has an event that no commit covers yet."""
    found = 0
    for at, _, host in scene.disturbances("killed"):
        recent = [one for one in scene.evidence.calls if one.host == host and at - 2.0 <= one.at <= at]
        found += any(entry.event_id for call in recent for entry in call.entries)
    return found


@state("stop while calls are in flight")
def _(scene: Scene) -> int:
    """A worker that was asked to stop waits for answers of AWS."""
    stopped = [end for end in scene.evidence.worker_ends if end.how == "stopped"]
    return sum(bool(scene.in_flight(end.host, end.at - 1.0)) for end in stopped)


@state("worker refused at its start")
def _(scene: Scene) -> int:
    """A worker ends with an error for operators."""
    return sum(end.how == "refused" for end in scene.evidence.worker_ends)


@state("freeze while calls are in flight")
def _(scene: Scene) -> int:
    """A worker is frozen while it waits for an answer of AWS."""
    return sum(bool(scene.in_flight(host, at)) for at, _, host in scene.disturbances("paused"))


@state("clock jumps while copies wait")
def _(scene: Scene) -> int:
    """The wall clock of a worker jumps while copies wait on retry topics."""
    return sum(
        any(copy.written.at <= at and not scene.is_covered(copy.written, at) for copy in scene.copies())
        for at, _, _ in scene.disturbances("clock")
    )
