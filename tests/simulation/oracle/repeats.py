"""Repeats stay within the bound: each has a cause, and the cause came before it.

A delivery ends in one arrival or one dead letter. It may end once more for each of these:

* Its answer was lost: the bus took the entry, and the worker never heard.
* Its worker was stopped by SIGSTOP while it waited, and its time-out or its hold was over when it ran again.
* AWS took the entry for a bus that does not exist, and the worker knew that there is none.
* The acknowledgement of a copy was lost: Kafka has the copy, and the worker writes it again.
* It arrived, or was copied, while no commit covered the record that it came from, or while the commit's cursor had it.
  Then its worker was killed, was dropped by its group, or could not commit. The next owner of the partition reads that
  record again.
* A call or a copy was in flight when its worker lost the partition, or a copy that Kafka did not take in time when it
  gave the partition back. The next owner reads that record again.
* The brokers' small limit of metadata left a commit no room for the map that had told of the record.
* An operator moved the group back, replayed it, or the topic's log was cut off, so that records are read again.

A rebalance, a stop and a start have no repeats: workers drain, and commit what has settled. So up to every moment,

    arrivals + dead letters <= records with these bytes + replays + causes before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from pushrail_stream.core.event import Undecodable
from tests.simulation.oracle.coverage import Coverage
from tests.simulation.oracle.deliveries import Arrival, CopySeen, Deliveries, EventSeen
from tests.simulation.oracle.evidence import Disturbance, Violation, Written, position_of
from tests.simulation.oracle.sources import Sources

ASSERTION: Final = "repeats have a cause"


class _Act(NamedTuple):
    """One thing that happened to a delivery. ``ends``: it arrived or became a dead letter."""

    at: float
    ends: int
    before: int
    """Further ends that it allows, itself included."""
    after: int
    """Further ends that it allows after itself."""
    told: str


def find_repeats(story: Deliveries) -> Iterator[Violation]:
    """A violation for each delivery that ended more often than its causes allow."""
    coverage = Coverage(story.evidence)
    for value, twins in story.by_value.items():
        if isinstance(twins[0].event, Undecodable):
            continue
        owner = twins[0].event.vendor, twins[0].event.customer_external_id
        possible = story.documents.possible(owner, twins[0].written.at, float("inf"))
        for group in dict.fromkeys(story.documents.group(version.destination) for version in possible):
            acts = sorted(_acts(story, coverage, value, twins, group))
            if (act := _first_without_cause(acts)) is not None:
                told = "; ".join(one.told for one in acts)
                yield Violation(
                    ASSERTION, f"the event at {position_of(twins[0].written.origin)} to {group}: {told}", act.at
                )


def _first_without_cause(acts: list[_Act]) -> _Act | None:
    ended = allowed = 0
    for act in acts:
        allowed += act.before
        ended += act.ends
        if ended > allowed:
            return act
        allowed += act.after
    return None


def _acts(story: Deliveries, coverage: Coverage, value: bytes, twins: list[EventSeen], group: str) -> Iterator[_Act]:
    destinations = sorted(story.documents.members(group))
    for twin in twins:
        yield _Act(twin.written.at, 0, len(destinations), 0, f"written {twin.written.at:.3f}")
        yield from _again(coverage, twin.written, len(destinations))
    copies = [copy for twin in twins for one in destinations for copy in story.copies_of(twin, one)]
    sources = Sources(
        coverage, [*(twin.written for twin in twins), *(one.written for one in copies if not one.is_dead)], destinations
    )
    for copy in copies:
        yield from _copy_acts(coverage, sources, copy)
    arrivals = story.arrivals.get((value, group), [])
    for arrival in arrivals:
        yield _arrival_act(story, sources, arrival)
    acts = [(arrival.at, arrival.call.host, False) for arrival in arrivals]
    acts += [(copy.written.at, copy.written.host, True) for copy in copies]
    for left_at in sources.left_in_flight(acts):
        yield _Act(left_at, 0, 1, 0, f"read again {left_at:.3f} (in flight)")


def _arrival_act(story: Deliveries, sources: Sources, arrival: Arrival) -> _Act:
    after, why = 0, ""
    if not arrival.call.is_clear:
        after, why = 1, " (its answer was lost)"
    elif story.is_overslept(arrival.call):
        after, why = 1, " (its worker was stopped until the answer was late)"
    elif arrival.entry.fault is not None:
        after, why = 1, " (and vanished)"
    elif (loss := sources.repetition(arrival.at, arrival.call.host)) is not None:
        after, why = 1, f" (not committed when {_told(loss)})"
    stray = sources.is_stray(arrival.at, arrival.call.host)
    return _Act(arrival.at, 1, stray, after, f"arrived {arrival.at:.3f} from {arrival.call.host}{why}")


def _copy_acts(coverage: Coverage, sources: Sources, copy: CopySeen) -> Iterator[_Act]:
    written, kind = copy.written, "dead letter" if copy.is_dead else "copy"
    if written.host and written.host not in coverage.hosts_of_commands:
        after, why = 0, ""
        if written.acknowledged_at is None:
            after, why = 1, " (its acknowledgement was lost)"
        elif (loss := sources.repetition(written.at, written.host)) is not None:
            after, why = 1, f" (not committed when {_told(loss)})"
        stray = sources.is_stray(written.at, written.host)
        yield _Act(written.at, int(copy.is_dead), stray, after, f"{kind} {written.at:.3f} of {written.host}{why}")
    else:  # a replay: a command wrote it, and not a worker
        yield _Act(written.at, int(copy.is_dead), 1, 0, f"replayed {written.at:.3f}")
    if not copy.is_dead:
        yield from _again(coverage, written, 1)


def _again(coverage: Coverage, written: Written, ends: int) -> Iterator[_Act]:
    """The times at which a record may have been read again because its log or its group's offset was moved."""
    for one in coverage.moves_of(written):
        yield _Act(one.at, 0, ends, 0, f"read again {one.at:.3f} ({one.kind})")
    for at in coverage.forgotten_at(written):
        yield _Act(at, 0, ends, 0, f"read again {at:.3f} (its commit has no room for a map)")
    for at in coverage.restarts_of(written):
        if at > written.at:
            yield _Act(at, 0, ends, 0, f"read again {at:.3f} (restarted)")


def _told(one: Disturbance) -> str:
    return f"{one.host or 'all hosts'} had {one.kind} at {one.at:.3f}"
