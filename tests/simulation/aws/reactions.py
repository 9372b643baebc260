"""The bytes that answer a request, when each of them leaves, and the end of the connection after them."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Final, Literal, NamedTuple

from tests.simulation.aws.records import Call

End = Literal["keep", "close", "reset"]
_LATE_SECS: Final = (0.5, 20.0)
"""Shortest and longest delay of a late answer. The longest exceeds every time-out of a call."""
_DRIP_SECS: Final = (0.1, 4.0)
"""Pause between two pieces of an answer that drips in: less than the read time-out, so only the whole call's deadline
ends the wait."""
_DRIPS: Final = 5
_HEAD_END: Final = b"\r\n\r\n"
_INTERIM: Final = (
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 102 Processing\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n",
)
_FORGED: Final = b'{"FailedEntryCount":0,"Entries":[{"EventId":"00000000-0000-0000-0000-000000000000"}]}'
_SURPLUS: Final = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(_FORGED), _FORGED)
"""A second answer behind the first, which a careless client reads as the answer to its next request."""


class Reaction(NamedTuple):
    """The reaction to one request."""

    pieces: tuple[tuple[float, bytes], ...]
    """Seconds after the piece before, and bytes."""
    end: End
    """The fate of the connection after the last piece."""
    is_whole: bool = False
    """Whether the pieces are the whole answer."""
    call: Call | None = None


def answered(wire: bytes) -> Reaction:
    """The whole answer at once; the connection stays open."""
    return Reaction(((0.0, wire),), "keep", is_whole=True)


def hang() -> Reaction:
    """No answer ever."""
    return Reaction((), "keep")


def spoil(kind: str, wire: bytes, dice: Random) -> Reaction:
    """The answer with a fault of the stage ``after``. Raises ``ValueError`` for another kind."""
    match kind:
        case "late":
            return Reaction(((dice.uniform(*_LATE_SECS), wire),), "keep", is_whole=True)
        case "drip":
            return Reaction(_drips(wire, dice), "keep", is_whole=True)
        case "interim":
            return answered(dice.choice(_INTERIM) + wire)
        case "surplus":
            return answered(wire + _SURPLUS)
        case "answer_lost":
            return hang()
        case _:
            return _broken_off(kind, wire, dice)


def _broken_off(kind: str, wire: bytes, dice: Random) -> Reaction:
    """The answer up to a point at which the connection ends."""
    head = wire.index(_HEAD_END) + len(_HEAD_END)
    bounds = {
        "closed_after": (0, 1),
        "reset_after": (0, 1),
        "cut_in_head": (1, head),
        "cut_in_body": (head, max(head + 1, len(wire))),
    }
    if kind not in bounds:
        raise ValueError(f"no fault of an answer: {kind}")
    sent = wire[: dice.randrange(*bounds[kind])]
    end: End = "reset" if kind == "reset_after" or (sent and dice.random() < 0.5) else "close"
    return Reaction(((0.0, sent),) if sent else (), end)


def _drips(wire: bytes, dice: Random) -> tuple[tuple[float, bytes], ...]:
    places = [0, *sorted(dice.randrange(len(wire)) for _ in range(_DRIPS - 1)), len(wire)]
    return tuple((dice.uniform(*_DRIP_SECS), wire[one:two]) for one, two in pairwise(places))
