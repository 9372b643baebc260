"""Commits that come too early."""

from __future__ import annotations

from tests.simulation.oracle.commits import find_unsettled
from tests.simulation.oracle.told import ONE, TIER, Told, delivered


def unsettled(told: Told) -> list[str]:
    return [violation.sentence for violation in find_unsettled(told.story)]


def test_a_commit_one_too_far_is_found() -> None:
    told, _ = delivered()
    told.event(1_003.0, 7)
    told.commit(1_004.0, 2)
    (found,) = unsettled(told)
    assert found == (
        "worker-1 committed pushrail.events/0 at 2 at 1004.000, but the record at pushrail.events/0/1 of topic "
        "id-of-events was not settled: dst_one"
    )


def test_a_settled_offset_above_the_commit_must_be_settled() -> None:
    told, _ = delivered()
    told.event(1_003.0, 7)
    late = told.event(1_003.0, 8)
    told.commit(1_004.0, 1, settled=(2,))
    assert len(unsettled(told)) == 1
    told.evidence.calls.append(told.call(1_003.5, late))
    assert unsettled(told) == []


def test_an_arrival_after_the_commit_does_not_count() -> None:
    told, _ = delivered()
    event = told.event(1_003.0, 7)
    told.commit(1_004.0, 2)
    told.call(1_005.0, event)
    assert len(unsettled(told)) == 1


def test_a_copy_settles_an_event_once_kafka_has_it() -> None:
    told, _ = delivered()
    event = told.event(1_003.0, 7)
    told.copy(1_003.5, event)
    told.commit(1_004.0, 2)
    assert unsettled(told) == []


def test_a_copy_on_a_retry_topic_is_not_settled_by_itself() -> None:
    told, _ = delivered()
    event = told.event(1_003.0, 7)
    told.copy(1_003.5, event)
    told.commit(1_020.0, 1, TIER)
    assert len(unsettled(told)) == 1
    told.call(1_015.0, event)
    assert unsettled(told) == []


def test_a_copy_is_not_settled_by_an_arrival_before_it() -> None:
    told, event = delivered()
    told.copy(1_003.5, event)
    told.commit(1_020.0, 1, TIER)
    assert len(unsettled(told)) == 1


def test_an_operator_may_step_over_records() -> None:
    told, _ = delivered()
    told.event(1_003.0, 7)
    told.commit(1_004.0, 2, host="")
    told.commit(1_005.0, 2)
    assert unsettled(told) == []


def test_a_record_that_took_the_offset_of_a_lost_one_is_looked_at() -> None:
    told = Told()
    told.document()
    lost = told.event(1_000.0, 1)
    lost.gone_at = 1_500.0
    new = told.event(1_501.0, 2)
    new.record = new.record._replace(offset=0)
    told.commit(1_502.0, 1)
    assert len(unsettled(told)) == 1


def test_a_topic_that_was_created_again_has_told_records() -> None:
    told, event = delivered()
    event.gone_at = 1_100.0
    told.event(1_101.0, 7, topic_id="second")
    told.commit(1_102.0, 1)
    assert unsettled(told) == [], "the commit names the first topic"
    told.commit(1_103.0, 1, topic_id="second")
    assert len(unsettled(told)) == 1


def test_a_disabled_destination_may_be_skipped_before_it_is_recorded() -> None:
    told, _ = delivered()
    told.document(0.5, enabled=False)
    told.event(1_003.0, 7)
    told.commit(1_004.0, 2)
    assert unsettled(told) == []
    assert ONE in told.story.documents.members(ONE)


def test_a_record_that_is_no_event_waits_for_its_dead_letter() -> None:
    told, _ = delivered()
    event = told.event(1_003.0, value=b"{}")
    told.commit(1_004.0, 2)
    assert len(unsettled(told)) == 1
    told.copy(1_003.5, event, "undecodable", None)
    assert unsettled(told) == []


def test_a_commit_of_the_lost_end_of_a_log_does_not_cover_the_records_that_took_its_offsets() -> None:
    """A consumer that resumes from it learns where its leader epoch ended, and reads them."""
    told = Told()
    told.document()
    lost = told.event(1_000.0, 1)
    lost.gone_at = 1_001.5
    told.call(1_000.5, lost)
    new = told.event(1_002.0, 2, epoch=1)
    new.record = new.record._replace(offset=0)
    told.commit(1_003.0, 1, epoch=0)
    assert unsettled(told) == []
    told.commit(1_004.0, 1, epoch=1)
    assert len(unsettled(told)) == 1


def test_a_tool_knows_no_leader_epochs() -> None:
    told, _ = delivered()
    told.event(1_003.0, 7, epoch=3)
    told.commit(1_004.0, 2, host="", epoch=-1)
    told.commit(1_005.0, 2, epoch=3)
    assert unsettled(told) == []


def test_a_worker_that_has_only_stepped_over_records_knows_no_leader_epoch() -> None:
    """Kafka's client tells an epoch only with a record. Without one, a consumer learns nothing of a loss."""
    told = Told()
    told.document()
    first = told.event(1_000.0, 1, is_readable=False, gone_at=1_500.0)
    told.commit(1_001.0, 1)
    new = told.event(1_501.0, 2, epoch=1)
    new.record = new.record._replace(offset=0)
    told.commit(1_502.0, 1, epoch=1)
    assert unsettled(told) == []
    assert told.story.is_stepped_over(new)
    assert not told.story.is_stepped_over(first)
    told.evidence.commits[0] = told.evidence.commits[0]._replace(epoch=0)
    assert len(unsettled(told)) == 1, "the commit named the epoch of the lost record"
    told.evidence.commits[0] = told.evidence.commits[0]._replace(epoch=-1)
    first.is_readable = True
    assert len(unsettled(told)) == 2, "the worker could learn the epoch from the record"
    assert not told.story.is_stepped_over(new)


def test_a_broker_that_lags_behind_lets_a_worker_commit_offsets_of_the_earlier_topic() -> None:
    told = Told()
    told.document()
    old = told.event(1_000.0, 1, gone_at=1_005.0)
    told.event(1_012.0, 2, topic_id="new-id")
    told.commit(1_014.0, 1, topic_id="new-id")
    told.evidence.created |= {"id-of-events": 900.0, "new-id": 1_010.0}
    told.evidence.heard_of["new-id"] = 1_017.0
    assert len(unsettled(told)) == 1, "neither record is settled"
    told.call(1_013.0, old)
    assert unsettled(told) == []
    told.evidence.heard_of["new-id"] = 1_010.0
    assert len(unsettled(told)) == 1, "no broker lagged behind"
