"""Commits that come too late, and periods of calm."""

from __future__ import annotations

import pytest

from pushrail_stream.core.flood_guard import FloodReport
from pushrail_stream.core.outcome import Delivered
from pushrail_stream.core.record import Partition
from pushrail_stream.core.retry import Settled
from pushrail_stream.core.signals import Flooded, OffsetsSkipped, PartitionsAssigned, PartitionUnread, Signal
from tests.simulation.oracle.calm import RECOVERY_SECS, Calm
from tests.simulation.oracle.evidence import Disturbance, SignalSeen, WorkerEnd
from tests.simulation.oracle.hold import find_held, find_long_calls
from tests.simulation.oracle.told import EVENTS, WORKER, Told, delivered
from tests.support.signals import attempted

HERE = Partition(EVENTS, 0)


def held(told: Told) -> list[str]:
    return [violation.sentence for violation in find_held(told.story)]


def test_a_commit_within_the_hold_is_good() -> None:
    told, _ = delivered()
    assert held(told) == []


def test_a_commit_after_the_hold_is_found() -> None:
    told, _ = delivered()
    told.event(1_003.0, 7)
    told.commit(1_019.0, 2)
    (found,) = held(told)
    assert found.endswith("written at 1003.000, was committed at 1019.000, and not within 15.1 s")


def test_a_map_of_settled_offsets_is_a_commit() -> None:
    told, _ = delivered()
    told.event(1_003.0, 7)
    told.event(1_003.0, 8)
    told.commit(1_004.0, 1, settled=(2,))
    assert len(held(told)) == 1


def test_a_disturbance_excuses() -> None:
    told, _ = delivered()
    told.event(1_003.0, 7)
    told.commit(1_100.0, 2)
    told.evidence.disturbances.append(Disturbance(1_010.0, 1_090.0, "kafka"))
    assert held(told) == []


def test_the_end_of_the_story_is_not_judged() -> None:
    told, _ = delivered()
    told.event(9_990.0, 7)
    assert held(told) == []


def calm_with(*signals: tuple[float, Signal]) -> Calm:
    told = Told()
    told.evidence.signals = [SignalSeen(at, WORKER, signal) for at, signal in signals]
    told.evidence.worker_ends.append(WorkerEnd(5_000.0, WORKER, "w", "stopped"))
    return Calm(told.evidence)


ASSIGNED = PartitionsAssigned(((HERE, None),))


@pytest.mark.parametrize(
    ("signals", "busy", "calm"),
    [
        ([], 5_030.0, 1_000.0),
        ([(1_000.0, ASSIGNED)], 1_080.0, 1_200.0),
        ([(100.0, ASSIGNED), (1_000.0, Flooded(FloodReport(1, 1, 1, 1, 1.0)))], 4_000.0, 900.0),
        ([(100.0, ASSIGNED), (1_000.0, PartitionUnread(HERE, 1, 30.0))], 9_000.0, 900.0),
        (
            [(100.0, ASSIGNED), (1_000.0, PartitionUnread(HERE, 1, 30.0)), (1_200.0, OffsetsSkipped(HERE, 1, 2, ""))],
            1_100.0,
            1_300.0,
        ),
    ],
)
def test_signals_tell_what_delays_everything(signals: list[tuple[float, Signal]], busy: float, calm: float) -> None:
    found = calm_with(*signals)
    assert not found.is_calm(busy, busy + 10.0)
    assert found.is_calm(calm, calm + 10.0)


def test_bad_weather_lasts_until_the_world_heals() -> None:
    told = Told()
    told.evidence.has_kafka_weather, told.evidence.healed_at = True, 2_000.0
    calm = Calm(told.evidence)
    assert not calm.is_calm(1_000.0, 1_001.0)
    assert calm.is_calm(2_001.0 + RECOVERY_SECS, 3_000.0)


def test_a_call_ends_with_the_hold_of_its_deliveries() -> None:
    told = Told(delivery={"hold_secs": 4})
    called = attempted((Delivered("id"), Settled()), duration_secs=5.0)
    told.evidence.signals.append(SignalSeen(1_006.0, WORKER, called))
    assert list(find_long_calls(told.story)) == []
    told.evidence.signals.append(SignalSeen(1_016.0, WORKER, called._replace(duration_secs=5.1)))
    (found,) = find_long_calls(told.story)
    assert found.sentence.startswith("worker-1 waited 5.1 s for an answer of")
    told.evidence.disturbances.append(Disturbance(1_012.0, 1_013.0, "paused", WORKER))
    assert list(find_long_calls(told.story)) == []
