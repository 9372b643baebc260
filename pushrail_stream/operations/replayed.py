"""The replays of dead letters, by the marks on the topic of replays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

from pushrail_stream.kafka.reach import reached_kafka
from pushrail_stream.kafka.replay_journal import read_marks
from pushrail_stream.operations.dead_letters import DeadLetterRecord
from pushrail_stream.operations.replay_selection import ReplayMark, read_replay_mark, replay_mark_key
from pushrail_stream.settings.model import Settings


@final
class Replays:
    """Tells which dead letters were replayed since they died."""

    def __init__(self, marks: Mapping[str, bytes]) -> None:
        """``marks``: all records of the topic of replays by key; other kinds among them mean nothing here."""
        self._marks = marks
        self._of_event: dict[str, list[str]] = {}
        """By event the keys of its marks: a letter without a destination goes to those that its customer has later."""
        for key in marks:
            self._of_event.setdefault(_event_in(key), []).append(key)

    @classmethod
    def read(cls, settings: Settings) -> Replays:
        """The replays until now. Raises `OperatorError`."""
        return cls(read_marks(reached_kafka(settings), settings.topics.replays))

    def since(self, letter: DeadLetterRecord) -> ReplayMark | None:
        """The last replay of this dead letter; None when there was none after it died."""
        key = replay_mark_key(letter, letter.destination or "")
        keys = [key] if letter.destination is not None else self._of_event.get(_event_in(key), [])
        marks = [mark for key in keys if (mark := read_replay_mark(self._marks.get(key, b""))) is not None]
        return max((mark for mark in marks if mark.covers(letter)), key=lambda mark: mark.at_ms, default=None)


def _event_in(key: str) -> str:
    return key.rpartition(" ")[0]
