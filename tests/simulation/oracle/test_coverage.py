"""Commits over time, and the first commit that covered each record."""

from __future__ import annotations

import pytest

from pushrail_stream.core.commit import Committable, encode_metadata
from pushrail_stream.core.record import Partition, TopicIdentity
from tests.simulation.oracle.commit_map import read_map
from tests.simulation.oracle.coverage import Coverage
from tests.simulation.oracle.covers import first_covers
from tests.simulation.oracle.evidence import Commit, Disturbance
from tests.simulation.oracle.told import EVENTS, WORKER, delivered


@pytest.mark.parametrize("settled", [[], [7], [8, 9, 20], list(range(7, 3_000, 3))])
def test_the_map_of_a_commit_is_read(settled: list[int]) -> None:
    metadata = encode_metadata(7, settled, TopicIdentity("cluster", "topic"))
    found = read_map(Committable(7, metadata))
    assert (found.topic_id, found.settled) == ("topic", frozenset(settled))


@pytest.mark.parametrize("metadata", ["", "other", "ps3:8:topic:::cluster", "ps3:7:topic"])
def test_metadata_of_another_offset_has_no_map(metadata: str) -> None:
    assert read_map(Committable(7, metadata)).topic_id is None


def test_a_damaged_map_is_empty() -> None:
    found = read_map(Committable(7, "ps3:7:topic:!!damaged::cluster"))
    assert (found.topic_id, found.settled) == ("topic", frozenset())


def test_a_record_is_covered_from_its_commit_on() -> None:
    told, event = delivered()
    coverage = Coverage(told.evidence)
    assert not coverage.covers(event, 1_001.9)
    assert coverage.covers(event, 1_002.0)


def test_a_record_is_read_again_after_a_loss_before_its_commit() -> None:
    told, event = delivered()
    told.assign(1_001.9)
    loss = Disturbance(1_001.8, 1_001.8, "killed", WORKER)
    told.evidence.disturbances.append(loss)
    found = Coverage(told.evidence).repetition_of(event, 1_001.0, WORKER)
    assert found is not None
    assert found.kind == "killed"
    assert Coverage(told.evidence).repetition_of(event, 1_001.0, "worker-3") is None
    told.evidence.signals.clear()
    told.assign(1_002.1)
    assert Coverage(told.evidence).repetition_of(event, 1_001.0, WORKER) is None, "it was committed by then"


def test_a_commit_of_a_tool_covers_records_that_take_the_offsets_of_lost_ones() -> None:
    told, event = delivered()
    lost = told.event(1_003.0, 1, gone_at=1_010.0)
    told.commit(1_004.0, 2, epoch=3)
    new = told.event(1_011.0, 2, epoch=4)
    new.record = new.record._replace(offset=1)
    told.commit(1_020.0, 3, epoch=4)
    assert not told.story.is_stepped_over(new)
    moved = Commit(1_005.0, "", Partition(EVENTS, 0), "id-of-events", Committable(2, ""))
    told.evidence.commits.insert(2, moved)
    assert told.story.is_stepped_over(new)
    assert not told.story.is_stepped_over(lost)
    told.evidence.commits.insert(3, moved._replace(at=1_006.0, host=WORKER, epoch=3))
    assert not told.story.is_stepped_over(new), "a worker had read on"
    assert not told.story.is_stepped_over(event)


def test_only_the_first_commit_counts() -> None:
    told, event = delivered()
    told.commit(1_003.0, 1)
    told.event(1_004.0, 1)
    ((commit, one),) = first_covers(told.evidence)
    assert (commit.at, one) == (1_002.0, event)
    assert not told.story.is_stepped_over(event)


def test_a_commit_that_a_tool_has_carried_from_another_cluster_is_about_the_present_topic() -> None:
    told, event = delivered()
    open_one, above = told.event(1_003.0, 1), told.event(1_003.0, 1)
    metadata = encode_metadata(2, [2], TopicIdentity("another-cluster", "another-topic"))
    carried = Commit(1_004.0, "", Partition(EVENTS, 0), "id-of-events", Committable(2, metadata))
    told.evidence.commits.append(carried)
    told.commit(1_005.0, 2)
    assert told.story.is_stepped_over(open_one)
    assert not told.story.is_stepped_over(event), "a worker had committed it"
    assert not Coverage(told.evidence).covers(above, 1_004.0), "the map is that of another log"
