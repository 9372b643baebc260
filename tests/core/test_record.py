"""Records: a position says where an event lies, in the words of headers and logs."""

from __future__ import annotations

from pushrail_stream.core.record import Origin, Partition
from tests.support.samples import record


def test_a_record_knows_where_it_lies() -> None:
    assert record(offset=42).origin == Origin("pushrail.events", 3, 42)


def test_the_same_offset_of_a_recreated_topic_is_another_origin() -> None:
    old, new = record(offset=42)._replace(topic_id="old"), record(offset=42)._replace(topic_id="new")
    assert old.origin != new.origin
    assert str(old.origin) == str(new.origin)


def test_positions_are_written_as_paths() -> None:
    assert str(Origin("pushrail.events", 3, 42)) == "pushrail.events/3/42"
    assert str(Partition("pushrail.events", 3)) == "pushrail.events/3"
