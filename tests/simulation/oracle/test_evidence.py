"""The values of the evidence."""

from __future__ import annotations

from pushrail_stream.core.record import Origin
from tests.simulation.oracle.evidence import Call, Entry, position_of


def test_a_position_names_the_topic_by_its_id() -> None:
    assert position_of(Origin("pushrail.events", 1, 7)) == "pushrail.events/1/7"
    assert position_of(Origin("pushrail.events", 1, 7, "abc")) == "pushrail.events/1/7 of topic abc"


def test_a_call_is_good_when_its_host_knows_that_all_was_taken() -> None:
    taken, refused = Entry(b"{}", (), "id-1"), Entry(b"{}", (), None, "InternalFailure", "moment")
    assert Call(1.0, "w", "PutEvents", "bus", "r", 200, (taken,), 1.1).is_good
    assert not Call(1.0, "w", "PutEvents", "bus", "r", 200, (taken,), None).is_good, "its answer was lost"
    assert not Call(1.0, "w", "PutEvents", "bus", "r", 200, (taken, refused), 1.1).is_good
    assert not Call(1.0, "w", "PutEvents", "bus", "r", 500, (), 1.1).is_good
