"""A short chaos run, and tests that show that the checks of a run can fail."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from pushrail_stream.core.commit import encode_metadata
from tests.chaos.arrivals import UNANSWERED, Arrival, Arrivals
from tests.chaos.commits import Commit, Commits, Position
from tests.chaos.copies import Copy
from tests.chaos.disturbances import Disturbances
from tests.chaos.duplicates import Audit, Duplicates, Evidence
from tests.chaos.fleet import lost_at
from tests.chaos.options import Options
from tests.chaos.run import Run
from tests.chaos.scrape import read_columns
from tests.chaos.verdict import Letters, find_lost, find_unproven
from tests.chaos.world import Place, World, number_in
from tests.support.kafka.fixtures import LocalKafkaFactory

METRICS = """# TYPE pushrail_deliveries_begun_total counter
pushrail_deliveries_begun_total 12.0
pushrail_deliveries_total{state="delivered"} 5.0
pushrail_deliveries_total{state="dead_lettered"} 1.0
pushrail_deliveries_total{state="moved_to_retry"} 2.0
pushrail_deliveries_total{state="skipped"} 0.0
pushrail_deliveries_total{state="put_back"} 0.0
pushrail_deliveries_total{state="dropped"} 1.0
pushrail_deliveries_in_flight 3.0
pushrail_buffered_events{of="events"} 1.0
pushrail_buffered_events{of="retries"} 1.0
"""


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(450)
def test_no_loss_and_explained_duplicates(local_kafka_factory: LocalKafkaFactory, tmp_path: Path) -> None:
    told: list[str] = []
    # It is given up well before the test is, so that it names the condition it waited for.
    options = Options(seed=7, events=10_000, kills=2, broker_restarts=1, limit_secs=250.0)
    result = Run(options, local_kafka_factory(options.broker_properties), tmp_path, told.append).execute()
    assert not result.problems.by_kind, "\n".join([*told, *result.problems.shown()])
    figures = result.figures
    assert figures["lost"] == 0
    assert (figures["kills"], figures["broker_restarts"]) == (2, 1)
    assert figures["dead_lettered"] >= len(World(7, 10_000, options.customers).planted)
    assert figures["retried"] > 0, "the faults must have bitten"
    assert figures["commits_with_cursors"] > 0, "destinations must have fallen behind"
    assert figures["suspended"] > 0
    assert figures["resumed"] == len(World(7, 10_000, options.customers).denied)
    assert figures["duplicates"] <= figures["duplicates_bound"]
    # The check knows nothing of the run. It misses only attempts that a killed worker had not written,
    # and each of those is at the bus, or the run has a problem.
    assert figures["audit_pending"] == 0
    assert figures["audit_missing"] + figures["audit_too_new"] < figures["delivered"] / 10
    # A killed worker delivered some events whose repetition was refused. The check may know the refusal alone.
    more = figures["audit_dead_lettered"] - figures["dead_lettered"]
    assert 0 <= more <= figures["delivered_and_dead_lettered"]


def test_one_seed_gives_one_world() -> None:
    one, other = World(3, 2_000, 50), World(3, 2_000, 50)
    assert one.customer_of == other.customer_of
    assert one.planted == other.planted
    assert World(4, 2_000, 50).customer_of != one.customer_of


def test_every_record_names_its_event() -> None:
    world = World(1, 5_000, 200)
    for number in (0, 7, 4_999, *world.planted):
        assert number_in(world.value(number)) == number
    assert number_in(b"{}") is None


KILLED_AT = 101.0
HERE, TIER = Position("chaos.events", 0, 7), Position("chaos.retry.2s", 0, 3)
COVERED = Commit(100.5, "chaos.events", 0, 8, "")
"""Made before the kill; the event at 7 is below it."""


def audit(
    arrivals: list[Arrival],
    disturbances: Disturbances | None = None,
    *,
    copies: Sequence[Copy] = (),
    commits: Sequence[Commit] = (),
) -> Duplicates:
    columns = Arrivals()
    for arrival in arrivals:
        columns.append(arrival)
    evidence = Evidence(columns, copies, Commits(commits), disturbances or Disturbances(), lambda _number: HERE)
    return Audit(World(1, 1_000, 50), evidence).finish()


def copy_at(at: float, position: Position) -> Copy:
    return Copy(1, Place(0, 0), at, None, None, {}, position)


def kill(worker: int) -> Disturbances:
    disturbances = Disturbances()
    disturbances.killed(worker, KILLED_AT, KILLED_AT + 0.1)
    return disturbances


ONCE = Arrival(number=1, slot=0, worker=1, received=100.0, replied=100.0)
AGAIN = Arrival(number=1, slot=0, worker=2, received=120.0, replied=120.0)
LATER = AGAIN._replace(received=130.0, replied=130.0)


def test_a_duplicate_needs_a_reason() -> None:
    assert not audit([ONCE]).unexplained
    found = audit([ONCE, AGAIN])
    assert len(found.unexplained) == 1
    assert found.unexplained[0].startswith("event 1 to dst_")
    assert (found.arrivals, found.bound) == (1, 0)
    assert audit([ONCE], copies=[copy_at(110.0, Position("chaos.dlq", 0, 0))]).unexplained, "delivered and dead"


def test_a_lost_answer_explains_one_more() -> None:
    unanswered = ONCE._replace(replied=UNANSWERED)
    assert not audit([unanswered, AGAIN]).unexplained
    assert audit([unanswered, AGAIN, LATER]).unexplained


def test_a_kill_explains_uncommitted_records() -> None:
    assert not audit([ONCE, AGAIN], kill(1)).unexplained
    assert audit([ONCE, AGAIN], kill(3)).unexplained, "another worker's"
    assert audit([ONCE, AGAIN], kill(1), commits=[COVERED]).unexplained, "it was committed"
    assert not audit([ONCE, AGAIN], kill(1), commits=[COVERED._replace(at=101.5)]).unexplained, "too late"
    assert not audit([ONCE, AGAIN], kill(1), commits=[COVERED._replace(offset=7)]).unexplained, "not so far"
    settled = COVERED._replace(offset=5, metadata=encode_metadata(5, [7]))
    assert audit([ONCE, AGAIN], kill(1), commits=[settled]).unexplained, "known as settled above the offset"
    assert audit([ONCE._replace(received=60.0), AGAIN, LATER], kill(1)).unexplained, "one kill, one more"
    assert audit([AGAIN._replace(received=60.0), ONCE], kill(1)).unexplained, "the cause comes first"


def test_an_uncommitted_retry_explains_one_more() -> None:
    moved = copy_at(100.5, TIER)
    assert not audit([AGAIN, LATER], kill(1), copies=[moved]).unexplained
    assert audit([AGAIN, LATER], kill(1), copies=[moved], commits=[COVERED]).unexplained
    retried = ONCE._replace(received=100.9)
    assert not audit([retried, AGAIN], kill(1), copies=[moved], commits=[COVERED]).unexplained, "the copy's own offset"
    both = [COVERED, COVERED._replace(topic=TIER.topic)]
    assert audit([retried, AGAIN], kill(1), copies=[moved], commits=both).unexplained


def test_a_stopped_worker_may_deliver_late() -> None:
    stopped = Disturbances()
    stopped.stopped(1, 85.0, 99.0)
    before = AGAIN._replace(received=95.0, replied=95.0)
    assert not audit([before, ONCE], stopped).unexplained
    assert audit([before, ONCE._replace(worker=3)], stopped).unexplained, "another worker's"


def test_a_reported_lost_membership_explains() -> None:
    told = '{"event": "partitions_lost", "timestamp": "1970-01-01T00:01:44Z"}\n{"event": "stopped"}\nTraceback\n'
    assert lost_at(told) == [104.0]
    starved = Disturbances()
    assert starved.lost(1, 104.0)
    assert not audit([ONCE, AGAIN], starved).unexplained
    assert audit([ONCE._replace(worker=3), AGAIN], starved).unexplained, "another worker's"
    assert not kill(1).lost(1, KILLED_AT + 1), "what was done to it explains that"


def test_an_event_found_nowhere_is_lost() -> None:
    world = World(1, 1_000, 50)
    columns = Arrivals()
    for number in range(1, 1_000):
        for slot in world.wanted_by(number):
            columns.append(Arrival(number, slot, 1, 1.0, 1.0))
    letters = Letters(world, [], frozenset(), frozenset(), "chaos.events")
    _, _, lost = find_lost(
        Audit(world, Evidence(columns, [], Commits([]), Disturbances(), lambda _number: HERE)), letters
    )
    undecodable = sum(kind == "undecodable" for kind in world.planted.values())
    assert len(lost) == len(world.wanted_by(0)) + undecodable
    assert lost[0].startswith("event 0 to dst_")


def test_events_the_check_misses_arrived() -> None:
    world = World(1, 1_000, 50)
    arrived, lost = [n for n in range(1_000) if world.wanted_by(n) == (0, 1)][:2]
    unwanted = next(
        n for n in range(1_000) if world.wanted_by(n) == (0,) and Place(world.customer_of[n], 1) in world.places()
    )
    columns = Arrivals()
    columns.append(Arrival(arrived, 1, 1, 1.0, 1.0))

    def position(number: int) -> Position:
        return Position("chaos.events", number % 3, number)

    def missing(number: int, slot: int) -> dict[str, str]:
        origin = "/".join(map(str, position(number)))
        return {"origin": origin, "destination": Place(world.customer_of[number], slot).id}

    found = Audit(world, Evidence(columns, [], Commits([]), Disturbances(), position))
    assert not find_unproven([missing(arrived, 1), missing(unwanted, 1)], found, world, position)
    lines = find_unproven(
        [
            missing(arrived, 0),
            missing(lost, 1),
            missing(lost, 0),
            {"origin": "chaos.events/0/999999", "destination": "dst_0_0"},
            missing(unwanted, 0) | {"destination": None},
        ],
        found,
        world,
        position,
    )
    assert [line.rpartition(": ")[2] for line in lines] == [
        *["it did not arrive"] * 3, *["nobody produced it, or it has no destination"] * 2,
    ]  # fmt: skip


def test_a_dead_letter_needs_its_given_reason() -> None:
    world = World(1, 1_000, 50)
    denied = [place.customer for place in world.denied]
    innocent = next(n for n in range(1_000) if n not in world.planted and world.customer_of[n] not in denied)
    refused = next(n for n in range(1_000) if world.customer_of[n] == 5)
    letters = Letters(world, [(50.0, 80.0), (90.0, 99.0)], frozenset({"call-1"}), frozenset(), "chaos.events")

    def letter(number: int, place: Place, reason: str, request_id: str = "", at: float = 60.0) -> Copy:
        said = {"pushrail-reason": reason, "pushrail-request-id": request_id, "pushrail-origin": "chaos.events/0/1"}
        return Copy(number, place, at, world.key(number).encode(), world.value(number), said, HERE)

    letters.take(letter(refused, world.denied[0], "blocked", "call-1"))
    letters.take(letter(refused, world.denied[0], "suspended"))
    assert not letters.problems
    letters.take(letter(refused, world.denied[0], "blocked", "call-2"))
    letters.take(letter(refused, world.denied[0], "expired"))
    letters.take(letter(innocent, Place(world.customer_of[innocent], 0), "blocked", "call-1"))
    letters.take(letter(refused, world.denied[0], "suspended", at=49.0))
    letters.take(letter(refused, world.denied[0], "suspended", at=95.0))
    letters.take(letter(refused, world.denied[0], "suspended", at=81.0))
    assert len(letters.problems) == 5
    assert letters.problems[-1].endswith("it must have been resumed")


def test_an_unbalanced_ledger_is_reported() -> None:
    idle = METRICS.replace("begun_total 12.0", "begun_total 9.0").replace("in_flight 3.0", "in_flight 0.0")
    twice = METRICS.replace("begun_total 12.0", "begun_total 8.0").replace("in_flight 3.0", "in_flight -1.0")
    assert not read_columns(METRICS).problem
    assert not read_columns(METRICS).is_idle
    assert "1 more" in read_columns(METRICS.replace("begun_total 12.0", "begun_total 13.0")).problem
    assert "twice" in read_columns(twice).problem
    assert "open" in read_columns(idle).problem
    settled_text = re.sub(r"(buffered.*) 1.0", r"\1 0.0", idle)
    settled = read_columns(settled_text)
    assert not settled.problem
    assert settled.is_idle
    early = read_columns(settled_text.replace('{of="retries"} 0.0', '{of="retries"} 2.0'))
    assert not early.problem, "read before they are due"
    assert not early.is_idle
    with pytest.raises(ValueError, match="buffered"):
        read_columns(METRICS.replace("buffered", "held"))
    with pytest.raises(ValueError, match="states"):
        read_columns(METRICS.replace('state="skipped"', 'state="gone"'))
    with pytest.raises(ValueError, match="begun"):
        read_columns(METRICS.replace("begun_total", "started_total"))


def test_an_abandoned_call_counts_from_its_start() -> None:
    columns = Arrivals()
    late = AGAIN._replace(received=102.0, replied=UNANSWERED)
    for arrival in (ONCE, late):
        columns.append(arrival)
    found = Audit(World(1, 1_000, 50), Evidence(columns, [], Commits([]), Disturbances(), lambda _number: HERE))
    assert found.suspects() == [(1, 0)]
    found.note_unanswered({(1, 0): [99.0]})
    assert not found.suspects()
    assert found.finish().unknown == 1
