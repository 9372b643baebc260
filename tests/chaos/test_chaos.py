"""A short chaos run as a test, and what the long one relies on: that its checks can fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.arrivals import UNANSWERED, Arrival, Arrivals
from tests.chaos.copies import Copy
from tests.chaos.disturbances import Disturbances
from tests.chaos.duplicates import Audit, Duplicates
from tests.chaos.options import Options
from tests.chaos.run import Run
from tests.chaos.scrape import read_columns
from tests.chaos.verdict import Letters, find_lost
from tests.chaos.world import Place, World, number_in
from tests.conftest import LocalKafkaFactory

METRICS = """# TYPE pushrail_deliveries_begun_total counter
pushrail_deliveries_begun_total 12.0
pushrail_deliveries_total{state="delivered"} 5.0
pushrail_deliveries_total{state="dead_lettered"} 1.0
pushrail_deliveries_total{state="moved_to_retry"} 2.0
pushrail_deliveries_total{state="skipped"} 0.0
pushrail_deliveries_total{state="dropped"} 1.0
pushrail_deliveries_in_flight 3.0
"""


@pytest.mark.kafka
@pytest.mark.timeout(300)
def test_nothing_is_lost_and_what_comes_twice_has_a_reason(
    local_kafka_factory: LocalKafkaFactory, tmp_path: Path
) -> None:
    told: list[str] = []
    options = Options(seed=7, events=10_000, kills=2, broker_restarts=1, disturbed_secs=45.0)
    result = Run(options, local_kafka_factory(), tmp_path, told.append).execute()
    assert not result.problems.by_kind, "\n".join([*told, *result.problems.shown()])
    figures = result.figures
    assert figures["lost"] == 0
    assert (figures["kills"], figures["broker_restarts"]) == (2, 1)
    assert figures["dead_lettered"] >= len(World(7, 10_000, options.customers).planted)
    assert figures["retried"] > 0, "the faults must have bitten"
    assert figures["duplicates"] <= figures["duplicates_bound"]


def test_the_same_seed_is_the_same_world() -> None:
    one, other = World(3, 2_000, 50), World(3, 2_000, 50)
    assert one.customer_of == other.customer_of
    assert one.planted == other.planted
    assert World(4, 2_000, 50).customer_of != one.customer_of


def test_every_record_names_its_event() -> None:
    world = World(1, 5_000, 200)
    for number in (0, 7, 4_999, *world.planted):
        assert number_in(world.value(number)) == number
    assert number_in(b"{}") is None


def audit(world: World, arrivals: list[Arrival], disturbances: Disturbances, copies: list[Copy]) -> Duplicates:
    columns = Arrivals()
    for arrival in arrivals:
        columns.append(arrival)
    found = Audit(world, columns, [copy for copy in copies if copy.reason == "rejected"], disturbances)
    for copy in copies:
        if copy.reason != "rejected":
            found.note_retry(copy)
    return found.finish()


def copy_of(number: int, at: float, reason: str) -> Copy:
    return Copy(number, Place(0, 0), at, None, None, {"pushrail-reason": reason})


ONCE = Arrival(number=1, slot=0, worker=1, received=100.0, replied=100.0)
AGAIN = Arrival(number=1, slot=0, worker=2, received=120.0, replied=120.0)


def test_a_duplicate_needs_a_reason_of_its_own() -> None:
    world, nothing = World(1, 1_000, 50), Disturbances()
    assert audit(world, [ONCE], nothing, []).unexplained == []
    found = audit(world, [ONCE, AGAIN], nothing, [])
    assert found.unexplained[0].startswith(f"event 1 to dst_{world.customer_of[1]}_0: arrived 100.000 from worker 1")
    assert (found.arrivals, found.bound) == (1, 0)
    assert audit(world, [ONCE], nothing, [copy_of(1, 110.0, "rejected")]).unexplained, "delivered and dead"


def test_an_unanswered_call_explains_one_more() -> None:
    world, nothing = World(1, 1_000, 50), Disturbances()
    unanswered = ONCE._replace(replied=UNANSWERED)
    assert not audit(world, [unanswered, AGAIN], nothing, []).unexplained
    assert audit(world, [unanswered, AGAIN, AGAIN], nothing, []).unexplained


def test_a_kill_explains_what_its_own_worker_had_not_committed() -> None:
    world = World(1, 1_000, 50)
    killed = Disturbances()
    killed.killed(1, 101.0, 101.1)
    assert not audit(world, [ONCE, AGAIN], killed, []).unexplained
    assert audit(world, [ONCE._replace(worker=3), AGAIN], killed, []).unexplained, "another worker's"
    assert audit(world, [ONCE._replace(received=90.0, replied=90.0), AGAIN], killed, []).unexplained, "long committed"
    under_way = ONCE._replace(received=90.0, replied=101.5)
    assert not audit(world, [under_way, AGAIN], killed, []).unexplained
    moved, later = copy_of(1, 100.5, "retryable"), AGAIN._replace(received=130.0, replied=130.0)
    assert not audit(world, [AGAIN, later], killed, [moved]).unexplained, "copied, and read again"
    assert audit(world, [AGAIN._replace(received=60.0, replied=60.0), ONCE], killed, []).unexplained, (
        "the cause is first"
    )


def test_a_worker_that_was_stopped_may_come_late_itself() -> None:
    world, stopped = World(1, 1_000, 50), Disturbances()
    stopped.stopped(1, 85.0, 99.0)
    before = AGAIN._replace(received=95.0, replied=95.0)
    assert not audit(world, [before, ONCE], stopped, []).unexplained
    assert audit(world, [before, ONCE._replace(worker=3)], stopped, []).unexplained, "another worker's"


def test_what_is_nowhere_is_lost() -> None:
    world = World(1, 1_000, 50)
    columns = Arrivals()
    for number in range(1, 1_000):
        for slot in world.wanted_by(number):
            columns.append(Arrival(number, slot, 1, 1.0, 1.0))
    letters = Letters(world, 0.0, frozenset(), frozenset(), "chaos.events")
    _, _, lost = find_lost(Audit(world, columns, [], Disturbances()), letters)
    undecodable = sum(kind == "undecodable" for kind in world.planted.values())
    assert len(lost) == len(world.wanted_by(0)) + undecodable
    assert lost[0].startswith("event 0 to dst_")


def test_a_dead_letter_needs_a_reason_that_was_given_to_it() -> None:
    world = World(1, 1_000, 50)
    innocent = next(n for n in range(1_000) if n not in world.planted and world.customer_of[n] != 5)
    refused = next(n for n in range(1_000) if world.customer_of[n] == 5)
    letters = Letters(world, 50.0, frozenset({"call-1"}), frozenset(), "chaos.events")

    def letter(number: int, place: Place, reason: str, request_id: str = "") -> Copy:
        said = {"pushrail-reason": reason, "pushrail-request-id": request_id, "pushrail-origin": "chaos.events/0/1"}
        return Copy(number, place, 60.0, world.key(number).encode(), world.value(number), said)

    letters.take(letter(refused, world.denied, "blocked", "call-1"))
    letters.take(letter(refused, world.denied, "suspended"))
    assert not letters.problems
    letters.take(letter(refused, world.denied, "blocked", "call-2"))
    letters.take(letter(refused, world.denied, "expired"))
    letters.take(letter(innocent, Place(world.customer_of[innocent], 0), "blocked", "call-1"))
    assert len(letters.problems) == 3


def test_accounts_that_do_not_balance_are_seen() -> None:
    assert read_columns(METRICS).difference == 0
    assert read_columns(METRICS.replace("begun_total 12.0", "begun_total 13.0")).difference == 1
    with pytest.raises(ValueError, match="states"):
        read_columns(METRICS.replace('state="skipped"', 'state="gone"'))
    with pytest.raises(ValueError, match="begun"):
        read_columns(METRICS.replace("begun_total", "started_total"))
