"""States of records, copies, calls and documents."""

from __future__ import annotations

from pushrail_stream.core import signals
from pushrail_stream.core.outcome import Retryable
from tests.simulation.oracle.scene import Scene
from tests.simulation.oracle.windows import DOWN_AFTER, USUAL, calls_made, most_in_flight
from tests.simulation.states.declaration import state

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


@state("repeat kept once")
def _(scene: Scene) -> int:
    """A bus of eventbridgev2 gets an entry again, and keeps it once."""
    return sum(entry.is_repeat for call in scene.evidence.calls for entry in call.entries)


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
        one.flush == "alone" and any(code in getattr(one.outcomes[0], "code", "") for code in codes)
        for _, _, one in scene.signals(signals.Attempted)
    )


@state("own credentials refused while a batch is in flight")
def _(scene: Scene) -> int:
    """A sign-in is refused for a fault of ours while deliveries wait for it."""
    return sum(
        isinstance(one.outcomes[0], Retryable) and one.outcomes[0].is_our_fault
        for _, _, one in scene.signals(signals.Attempted)
    )


@state("more calls in flight than usual")
def _(scene: Scene) -> int:
    """A destination has more calls in flight than one that nothing is known about."""
    made = calls_made(scene.story).values()
    return sum(most_in_flight(calls, 0.0, scene.evidence.ended_at) > USUAL for calls in made)


@state("destination down")
def _(scene: Scene) -> int:
    """Eight calls in a row to a destination fail as a whole."""
    found = 0
    for calls in calls_made(scene.story).values():
        row = 0
        for call in calls:
            row = row + 1 if call.has_failed else 0
            found += row == DOWN_AFTER
    return found


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
