"""Interesting states: each story counts how often it reaches them, and many stories that never reach one have failed.

A state that is never reached shows a gap in the simulation: a fault is missing, or too rare. A new state is a function
with the decorator `state`, whose docstring says it in one sentence. It counts over the evidence of a story that has
ended, so it costs nothing while the story is played.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from pushrail_stream.core import signals
from tests.simulation.oracle.scene import Scene

Count = Callable[[Scene], int]


class State(NamedTuple):
    """One interesting state."""

    name: str
    sentence: str
    count: Count


STATES: Final[dict[str, State]] = {}
"""All states by name."""
_SIGNALS: Final[dict[str, tuple[type, str]]] = {
    "destination suspended": (signals.Suspended, "A destination is suspended, or a probe of it is refused."),
    "destination resumed": (signals.Resumed, "A suspension ends."),
    "bus missing": (signals.BusMissing, "The bus of a destination does not exist."),
    "bus found again": (signals.BusFound, "A bus that was missing exists again."),
    "destination slowed": (signals.Slowed, "A destination gets fewer calls at once."),
    "flood guard stops": (signals.Flooded, "Most records would become dead letters, and consuming stops."),
    "buffer full": (signals.Backpressure, "Consuming stops because the buffer of a worker is full, or goes on."),
    "records trimmed": (signals.RecordsTrimmed, "Kafka removed records before a worker read them."),
    "partition unread": (signals.PartitionUnread, "A batch cannot be read."),
    "unreadable batch skipped": (signals.OffsetsSkipped, "A worker steps over a batch because an operator ordered it."),
    "document refused": (signals.DocumentRefused, "A document cannot be used."),
    "own credentials refused": (signals.OwnCredentialsFailed, "Our own credentials cannot be used."),
    "own credentials again": (signals.OwnCredentialsFound, "Our own credentials work again."),
    "copy refused by Kafka": (signals.CopyFailed, "A copy cannot be written, and the write is repeated."),
    "documents out of reach": (signals.RegistryTrouble, "The documents cannot be read at the moment."),
    "commit refused": (signals.CommitFailed, "Kafka refuses a commit, or its answer is lost."),
}
"""States that a signal tells."""


def state(name: str) -> Callable[[Count], Count]:
    """Declare a state by the function that counts it."""

    def declare(count: Count) -> Count:
        if name in STATES:
            raise ValueError(f"there are two states named {name}")
        STATES[name] = State(name, (count.__doc__ or "").partition("\n")[0], count)
        return count

    return declare


def _told_by(kind: type) -> Count:
    return lambda scene: sum(1 for _ in scene.signals(kind))


STATES.update({name: State(name, told, _told_by(kind)) for name, (kind, told) in _SIGNALS.items()})
