"""Marks tell which dead letters were replayed since they died."""

from __future__ import annotations

from typing import Any

import pytest

from pushrail_stream.core.delivery import Replay
from pushrail_stream.operations.replay_selection import ReplayMark, replay_mark
from pushrail_stream.operations.replayed import Replays
from tests.support.dead_letters import AT, letter

AGAIN = {"replay": Replay("rp-1", 1), "failed_at_ms": AT + 2}


def replays(*marks: tuple[str, ReplayMark]) -> Replays:
    return Replays({"events:rp-0": b"{}", "damaged": b"{", **dict(replay_mark(key, mark) for key, mark in marks)})


@pytest.mark.parametrize(
    ("died", "replay"),
    [
        ({}, "rp-1"),
        (AGAIN, None),
        ({"failed_at_ms": AT + 2}, None),
        ({"destination_id": "dst_1"}, "rp-2"),
        ({"destination_id": None, "reason": "rejected"}, "rp-2"),
        ({"destination_id": "dst_2"}, None),
    ],
    ids=["replayed", "failed again in it", "failed later", "other destination", "no destination", "not replayed"],
)
def test_the_last_replay_after_the_death_is_told(died: dict[str, Any], replay: str | None) -> None:
    origin = letter(0).origin
    told = replays(
        (f"{origin} dst_0", ReplayMark("rp-1", AT + 1, 1)),
        (f"{origin} dst_1", ReplayMark("rp-2", AT + 1 + 1, 1)),
        (f"{origin}8 dst_2", ReplayMark("rp-3", AT + 1, 1)),
    ).since(letter(0, **died))
    assert (told and told.replay) == replay


def test_a_mark_of_another_topic_of_the_same_name_is_none() -> None:
    died = letter(0)
    marks = (f"{died.origin} other-topic-id dst_0", ReplayMark("rp-1", AT + 1, 1))
    assert replays(marks).since(died) is None
