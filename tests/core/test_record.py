"""Records: a position identifies an event."""

from __future__ import annotations

import pytest

from pushrail_stream.core.record import Origin, Partition, parse_offset, parse_origin
from tests.support.samples import example_record


def test_a_record_knows_where_it_lies() -> None:
    assert example_record(offset=42).origin == Origin("pushrail.events", 3, 42)


def test_a_recreated_topic_has_other_origins() -> None:
    old, new = example_record(offset=42)._replace(topic_id="old"), example_record(offset=42)._replace(topic_id="new")
    assert old.origin != new.origin
    assert str(old.origin) == str(new.origin)


def test_positions_are_written_as_paths() -> None:
    assert str(Origin("pushrail.events", 3, 42)) == "pushrail.events/3/42"
    assert str(Partition("pushrail.events", 3)) == "pushrail.events/3"


def test_a_position_reads_as_three_parts() -> None:
    assert parse_origin("pushrail.events/3/1042") == Origin("pushrail.events", 3, 1042)
    assert parse_origin(f"t/{2**31 - 1}/{2**63 - 1}") == Origin("t", 2**31 - 1, 2**63 - 1)


@pytest.mark.parametrize(
    "text",
    [
        "", "a", "a/1", "t/-1/0", "t/0/x", "t/\u0663/0", "t/0/\u00b2",
        f"t/{2**31}/0", f"t/0/{2**63}", "t/0/" + "9" * 5_000,
    ],
)  # fmt: skip
def test_an_impossible_position_is_none(text: str) -> None:
    assert parse_origin(text) is None


@pytest.mark.parametrize("text", ["", "-5", "1.0", "\u00b2", str(2**63), "9" * 5_000])
def test_an_impossible_offset_is_none(text: str) -> None:
    assert parse_offset(text) is None
