"""Positions and offsets as somebody types them."""

from __future__ import annotations

import pytest

from pushrail_stream.cli.positions import parse_offset, parse_position
from pushrail_stream.core.record import Origin
from pushrail_stream.errors import OperatorError


def test_a_position_is_a_topic_a_partition_and_an_offset() -> None:
    assert parse_position("pushrail.events/3/1042") == Origin("pushrail.events", 3, 1042)
    assert parse_position(f"t/{2**31 - 1}/{2**63 - 1}") == Origin("t", 2**31 - 1, 2**63 - 1)


@pytest.mark.parametrize(
    "text",
    [
        "", "a", "a/1", "t/-1/0", "t/0/x", "t/\u0663/0", "t/0/\u00b2",
        f"t/{2**31}/0", f"t/0/{2**63}", "t/0/" + "9" * 5_000,
    ],
)  # fmt: skip
def test_a_position_that_kafka_cannot_have_is_refused(text: str) -> None:
    with pytest.raises(OperatorError, match="POSITION: must be topic/partition/offset"):
        parse_position(text)


@pytest.mark.parametrize("text", ["", "-5", "1.0", "\u00b2", str(2**63), "9" * 5_000])
def test_an_offset_that_kafka_cannot_have_is_none(text: str) -> None:
    assert parse_offset(text) is None
