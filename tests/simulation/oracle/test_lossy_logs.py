"""Periods for which the attempts log may lack records."""

from __future__ import annotations

from pushrail_stream.observe.worker_record import WorkerIdentity
from pushrail_stream.pipeline.stats import WorkerStats
from tests.simulation.oracle.evidence import Disturbance, WorkerEnd
from tests.simulation.oracle.test_accounting import fields_of
from tests.simulation.oracle.told import WORKER, delivered


def test_a_story_without_trouble_has_every_record() -> None:
    told, _ = delivered()
    told.evidence.worker_ends.append(WorkerEnd(1_010.0, WORKER, "w", "stopped"))
    assert not told.story.may_lack_attempts(1_005.0)


def test_a_killed_worker_may_lose_its_last_records() -> None:
    told, _ = delivered()
    told.evidence.worker_ends.append(WorkerEnd(1_100.0, WORKER, "w", "killed"))
    assert told.story.may_lack_attempts(1_090.0, WORKER)
    assert not told.story.may_lack_attempts(1_050.0, WORKER)
    assert not told.story.may_lack_attempts(1_090.0, "worker-2")


def test_a_trouble_of_kafka_may_lose_records_of_all() -> None:
    told, _ = delivered()
    told.evidence.disturbances.append(Disturbance(1_100.0, 1_200.0, "kafka"))
    assert told.story.may_lack_attempts(1_220.0, WORKER)
    assert not told.story.may_lack_attempts(1_300.0, WORKER)


def test_a_worker_that_counts_losses_may_lack_any() -> None:
    told, _ = delivered()
    state = WorkerIdentity("w", "w", "h", "g", 0).record(WorkerStats(now_ms=0, attempts_lost=2), "h:1", [])
    assert fields_of(state)["totals"]["attemptsLost"] == 2
    told.write(1_003.0, "pushrail.workers", state.encode(), host=WORKER, key=b"w")
    assert told.story.may_lack_attempts(9_000.0, WORKER)
    assert not told.story.may_lack_attempts(9_000.0, "worker-2")


def test_records_that_kafka_lost_are_missing() -> None:
    told, _ = delivered()
    told.evidence.written[-1].gone_at = 5_000.0
    assert told.story.may_lack_attempts(1_002.0, WORKER)
