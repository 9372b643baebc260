"""Positions that may mean several records."""

from __future__ import annotations

import pytest

from pushrail_stream.core.record import Origin
from tests.simulation.oracle.evidence import Disturbance
from tests.simulation.oracle.places import Places
from tests.simulation.oracle.told import EVENTS, Told, event_value

PLACE = Origin(EVENTS, 0, 0)


def recreated(written_at: float) -> Told:
    """A topic that is deleted, and created again at 1,010 s; each has a record."""
    told = Told()
    told.evidence.created |= {"id-of-events": 900.0, "new-id": 1_010.0}
    told.event(1_000.0, 1, gone_at=1_005.0)
    told.event(written_at, 2, topic_id="new-id")
    return told


def meant(told: Told, origin: Origin) -> list[bytes | None]:
    return [one.record.value for one in Places(told.evidence).meant_by(origin)]


def test_a_topic_id_tells_topics_of_one_name_apart() -> None:
    told = recreated(1_100.0)
    assert meant(told, PLACE._replace(topic_id="id-of-events")) == [event_value(1)]
    assert meant(told, PLACE._replace(topic_id="new-id")) == [event_value(2)]
    assert meant(told, PLACE._replace(topic_id="another")) == []


def test_a_position_without_a_topic_id_may_mean_either() -> None:
    told = recreated(1_100.0)
    assert meant(told, PLACE) == [event_value(1), event_value(2)]
    assert Places(told.evidence).is_ambiguous(PLACE)
    assert not Places(told.evidence).is_ambiguous(PLACE._replace(offset=1))


def test_first_records_of_a_new_topic_may_have_the_id_of_the_earlier_one() -> None:
    told = recreated(1_020.0)
    assert meant(told, PLACE._replace(topic_id="id-of-events")) == [event_value(2), event_value(1)]
    assert meant(told, PLACE._replace(topic_id="new-id")) == [event_value(2)]


def test_a_broker_that_lags_behind_serves_the_earlier_topic_to_a_worker_that_knows_the_new_one() -> None:
    told = recreated(1_100.0)
    new = told.evidence.written[-1]
    named = PLACE._replace(topic_id="new-id")
    told.evidence.heard_of["new-id"] = 1_010.0
    assert meant(told, named) == [event_value(2)]
    assert Places(told.evidence).stand_ins(new, 1_015.0) == []
    told.evidence.heard_of["new-id"] = 1_017.0
    assert meant(told, named) == [event_value(1), event_value(2)]
    (stand_in,) = Places(told.evidence).stand_ins(new, 1_020.0)
    assert stand_in.record.value == event_value(1)
    assert list(Places(told.evidence).stand_ins(new, 1_100.0)) == [], "the worker reads the new topic by then"
    told.evidence.written[0].at = 1_018.0
    assert meant(told, named) == [event_value(2)], "no broker served the earlier topic any more"


@pytest.mark.parametrize(("heard_at", "is_mistaken"), [(1_010.0, False), (1_064.9, False), (1_065.1, True)])
def test_a_worker_may_hear_of_the_earlier_topic_last(heard_at: float, is_mistaken: bool) -> None:  # noqa: FBT001
    """It began while brokers heard of the new topic at different times."""
    told = recreated(1_100.0)
    told.evidence.heard_of["new-id"] = heard_at
    assert (event_value(2) in meant(told, PLACE._replace(topic_id="id-of-events"))) is is_mistaken


@pytest.mark.parametrize(("kind", "is_late"), [("kafka", True), ("paused", True), ("operator", False)])
def test_a_worker_that_cannot_ask_learns_the_id_later(kind: str, is_late: bool) -> None:  # noqa: FBT001
    told = recreated(1_100.0)
    told.evidence.disturbances.append(Disturbance(1_005.0, 1_050.0, kind))  # type: ignore[arg-type]
    assert (event_value(2) in meant(told, PLACE._replace(topic_id="id-of-events"))) is is_late
