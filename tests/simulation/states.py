"""Interesting states: each story counts how often it reaches them, and many stories that never reach one have failed.

A state that is never reached shows a gap in the simulation: a fault is missing, or too rare. A new state is a function
with the decorator `state`, whose docstring says it in one sentence. It counts over the evidence of a story that has
ended, so it costs nothing while the story is played.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Final, NamedTuple

from pushrail_stream.core import signals
from pushrail_stream.core.outcome import Retryable
from tests.simulation.oracle.commit_map import read_map
from tests.simulation.oracle.deliveries import Deliveries
from tests.simulation.oracle.evidence import Evidence
from tests.simulation.oracle.scene import Scene

Count = Callable[[Scene], int]


class State(NamedTuple):
    """One interesting state."""

    name: str
    sentence: str
    count: Count


STATES: Final[dict[str, State]] = {}
"""All states by name."""
_SIGNALS: Final[dict[str, tuple[type, str]]] = {
    "destination suspended": (signals.Suspended, "A destination is suspended, or a probe of it is refused."),
    "destination resumed": (signals.Resumed, "A suspension ends."),
    "bus missing": (signals.BusMissing, "The bus of a destination does not exist."),
    "bus found again": (signals.BusFound, "A bus that was missing exists again."),
    "destination slowed": (signals.Slowed, "A destination gets fewer calls at once."),
    "flood guard stops": (signals.Flooded, "Most records would become dead letters, and consuming stops."),
    "buffer full": (signals.Backpressure, "Consuming stops because the buffer of a worker is full, or goes on."),
    "records trimmed": (signals.RecordsTrimmed, "Kafka removed records before a worker read them."),
    "partition unread": (signals.PartitionUnread, "A batch cannot be read."),
    "unreadable batch skipped": (signals.OffsetsSkipped, "A worker steps over a batch because an operator ordered it."),
    "document refused": (signals.DocumentRefused, "A document cannot be used."),
    "own credentials refused": (signals.OwnCredentialsFailed, "Our own credentials cannot be used."),
    "own credentials again": (signals.OwnCredentialsFound, "Our own credentials work again."),
    "copy refused by Kafka": (signals.CopyFailed, "A copy cannot be written, and the write is repeated."),
    "documents out of reach": (signals.RegistryTrouble, "The documents cannot be read at the moment."),
    "commit refused": (signals.CommitFailed, "Kafka refuses a commit, or its answer is lost."),
}
"""States that a signal tells."""


def state(name: str) -> Callable[[Count], Count]:
    """Declare a state by the function that counts it."""

    def declare(count: Count) -> Count:
        if name in STATES:
            raise ValueError(f"there are two states named {name}")
        STATES[name] = State(name, (count.__doc__ or "").partition("\n")[0], count)
        return count

    return declare


def count_states(evidence: Evidence) -> dict[str, int]:
    """The number of times that a story reached each declared state; 0 for the others."""
    scene = Scene(Deliveries(evidence))
    return {name: one.count(scene) for name, one in STATES.items()}


def _told_by(kind: type) -> Count:
    return lambda scene: sum(1 for _ in scene.signals(kind))


STATES.update({name: State(name, told, _told_by(kind)) for name, (kind, told) in _SIGNALS.items()})


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


# Kafka's logs


@state("truncation while copies are unacknowledged")
def _(scene: Scene) -> int:
    """Kafka loses records of a log just after, or while, copies are written."""
    lost = sorted({one.gone_at for one in scene.evidence.written if one.gone_at is not None})
    return sum(
        any(copy.written.at <= at <= (copy.written.acknowledged_at or at) + 1.0 for copy in scene.story.copies)
        for at in lost
    )


@state("topic recreated while records are in flight")
def _(scene: Scene) -> int:
    """The topic of events is deleted while it has records that no commit covers."""
    events = scene.story.events
    ids = list(dict.fromkeys(seen.written.record.topic_id for seen in events))
    return sum(
        seen.written.record.topic_id in ids[:-1]
        and seen.written.gone_at is not None
        and not scene.is_covered(seen.written, seen.written.gone_at)
        for seen in events
    )


@state("partition read from its beginning")
def _(scene: Scene) -> int:
    """A worker notices that a topic was created again."""
    return sum(one.why == "recreated" for _, _, one in scene.signals(signals.PartitionRestarted))


@state("partition went back")
def _(scene: Scene) -> int:
    """A worker notices that a log was cut off."""
    return sum(one.why == "went_back" for _, _, one in scene.signals(signals.PartitionRestarted))


@state("aborted records passed over")
def _(scene: Scene) -> int:
    """Commits go past records of an aborted transaction, or of a batch that cannot be read."""
    return sum(
        not seen.written.is_readable and id(seen.written) in scene.story.covered_by for seen in scene.story.events
    )


@state("copy whose acknowledgement was lost")
def _(scene: Scene) -> int:
    """Kafka has a copy, and its writer has heard nothing of it."""
    return sum(copy.written.acknowledged_at is None for copy in scene.story.copies)


@state("copy acknowledged late")
def _(scene: Scene) -> int:
    """Kafka's acknowledgement of a copy comes a second or more after the write."""
    return sum((copy.written.acknowledged_at or 0.0) >= copy.written.at + 1.0 for copy in scene.story.copies)


@state("offsets moved by a tool")
def _(scene: Scene) -> int:
    """A tool commits for a group of the workers."""
    return sum(not commit.host for commit in scene.evidence.commits)


# Calls


@state("batch taken in part")
def _(scene: Scene) -> int:
    """A bus takes some entries of a call, and refuses others."""
    return sum(len({entry.event_id is None for entry in call.entries}) > 1 for call in scene.evidence.calls)


@state("answer lost after the entries were taken")
def _(scene: Scene) -> int:
    """A bus takes the entries of a call, and the worker never hears of it."""
    return sum(
        call.answered_at is None and any(entry.event_id for entry in call.entries) for call in scene.evidence.calls
    )


@state("garbled answer")
def _(scene: Scene) -> int:
    """A worker gets an answer that AWS did not make."""
    return sum(call.is_garbled for call in scene.evidence.calls)


@state("batch split")
def _(scene: Scene) -> int:
    """The entries of a refused call are sent one by one."""
    return sum(one.flush == "alone" for _, _, one in scene.signals(signals.Attempted))


@state("session refused in a split batch")
def _(scene: Scene) -> int:
    """A session is refused while the entries of a batch are sent one by one."""
    codes = ("Expired", "Token", "UnrecognizedClient", "AccessDenied")
    return sum(
        one.flush == "alone" and any(code in getattr(one.entries[0].outcome, "code", "") for code in codes)
        for _, _, one in scene.signals(signals.Attempted)
    )


@state("own credentials refused while a batch is in flight")
def _(scene: Scene) -> int:
    """A sign-in is refused for a fault of ours while deliveries wait for it."""
    return sum(
        isinstance(one.entries[0].outcome, Retryable) and one.entries[0].outcome.ours
        for _, _, one in scene.signals(signals.Attempted)
    )


@state("event delivered to a bus that vanished")
def _(scene: Scene) -> int:
    """AWS confirms an entry for a bus that does not exist."""
    entries = (entry for call in scene.evidence.calls for entry in call.entries)
    return sum(entry.event_id is not None and entry.fault is not None for entry in entries)


@state("document edited while calls are in flight")
def _(scene: Scene) -> int:
    """A document changes while a worker waits for an answer of its bus."""
    hosts = sorted({call.host for call in scene.evidence.calls})
    found = 0
    for edit in scene.evidence.edits:
        targets = {call.target for host in hosts for call in scene.in_flight(host, edit.at)}
        groups = {group for target in targets for group in scene.story.documents.groups_behind(target)}
        found += scene.story.documents.group(edit.name) in groups
    return found


# Retries and dead letters


@state("copy on the last retry topic")
def _(scene: Scene) -> int:
    """A delivery has climbed to the retry topic with the longest wait."""
    last = scene.evidence.retry_topics[-1]
    return sum(copy.written.record.topic == last for copy in scene.copies())


@state("delivery held without an attempt")
def _(scene: Scene) -> int:
    """A delivery moves to a retry topic before a call could be made."""
    return sum(not copy.headers.attempts for copy in scene.copies(reason="held"))


@state("delivery expired")
def _(scene: Scene) -> int:
    """A delivery becomes a dead letter for its age."""
    return len(scene.copies(is_dead=True, reason="expired"))


@state("delivery refused by a suspension")
def _(scene: Scene) -> int:
    """A delivery becomes a dead letter without a call because its destination is suspended."""
    return len(scene.copies(is_dead=True, reason="suspended"))


@state("event too large")
def _(scene: Scene) -> int:
    """An event that fits into no call becomes a dead letter."""
    return len(scene.copies(is_dead=True, reason="oversize"))


@state("record that is no event")
def _(scene: Scene) -> int:
    """A record that cannot be decoded becomes a dead letter."""
    return len(scene.copies(is_dead=True, reason="undecodable"))


@state("dead letter replayed and delivered")
def _(scene: Scene) -> int:
    """A delivery that an operator replayed arrives."""
    return sum(said.get("replayId") is not None and said.get("status") == "delivered" for said in scene.story.attempts)


@state("copy of a deleted destination")
def _(scene: Scene) -> int:
    """A copy comes back from a retry topic, and its destination is gone or belongs to another customer."""
    return sum(said.get("reason") == "deleted" for said in scene.story.attempts)


@state("event repeated by its producer")
def _(scene: Scene) -> int:
    """Two records have the same bytes."""
    return sum(len(twins) - 1 for twins in scene.story.by_value.values())


@state("check while records are open")
def _(scene: Scene) -> int:
    """An operator checks the deliveries while some of them wait."""
    return sum(any(one.status == "pending" for one in run.deliveries) for run in scene.evidence.checks)
