"""The schedule: what happens to workers and broker, and when. Drawn before the run, the same for the same seed."""

from __future__ import annotations

import random
from typing import Final, Literal, NamedTuple

from tests.chaos.faults import DENIALS
from tests.chaos.options import Options
from tests.chaos.world import LONGEST_STOP_SECS, SESSION_SECS

Deed = Literal["kill", "terminate", "stop", "join", "broker_kill", "broker_stop"]

_QUIET_START_SECS: Final = DENIALS[0].resumed_at
"""The first workers start, join and sign in, and meet destinations that refuse everything for a while."""
_QUIET_END_SECS: Final = 8.0


class Action(NamedTuple):
    """One disturbance, ``at`` this number of seconds from the start.

    ``pick``, in [0, 1), selects one of the workers of that moment. ``secs``: the time until an ended worker has its
    successor or a stopped one goes on, and for which a joining worker stays or the broker is down.
    """

    at: float
    deed: Deed
    pick: float
    secs: float


def plan_actions(options: Options) -> list[Action]:
    """All actions, in order."""
    dice = random.Random(f"{options.seed}/schedule")
    others = max(1, options.kills // 3)
    actions = [
        *_spread(dice, options, ["kill"] * options.kills, (0.5, 4.0)),
        *_spread(dice, options, ["terminate"] * others, (0.5, 4.0)),
        *_spread(dice, options, ["stop"] * others, (1.0, 2.5)),
        *_spread(dice, options, ["stop"] * others, (SESSION_SECS + 2, LONGEST_STOP_SECS)),
        *_spread(dice, options, ["join"] * others, (8.0, 20.0)),
        *_spread(dice, options, _outages(options.broker_restarts), (1.0, 6.0)),
    ]
    return sorted(actions)


def _outages(restarts: int) -> list[Deed]:
    return ["broker_stop" if number % 2 else "broker_kill" for number in range(restarts)]


def _spread(dice: random.Random, options: Options, deeds: list[Deed], secs: tuple[float, float]) -> list[Action]:
    """One of them in each of as many equal parts of the run."""
    part = (options.produce_secs - _QUIET_START_SECS - _QUIET_END_SECS) / max(1, len(deeds))
    return [
        Action(_QUIET_START_SECS + (number + dice.random()) * part, deed, dice.random(), dice.uniform(*secs))
        for number, deed in enumerate(deeds)
    ]
