"""The bus's random plan of faults: phases of a few seconds, each with some of the faults at a random strength."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from pushrail_stream.core.pacing import PROBES
from pushrail_stream.sandbox.bus.faults import (
    CallError,
    EntryError,
    ExpireTokens,
    Garbage,
    Hang,
    Latency,
    Match,
    Probability,
    RateAbove,
    ResetAfter,
    ResetBefore,
    Rule,
    Times,
)
from tests.chaos.lags import SLOW, Lag, plan_lags
from tests.chaos.world import (
    CONNECT_SECS,
    LONGEST_STOP_SECS,
    MALFORMED_MARK,
    READ_SECS,
    Place,
    World,
    role_arn,
)

DENIED: Final = "denied"
MALFORMED: Final = "malformed"
LATE: Final = "late"
"""Names of rules, as the bus writes them beside the calls they struck."""

_PHASE_SECS: Final = (2.0, 6.0)
_CALM: Final = 0.12
_PUT: Final = Match(operation="PutEvents")
_STS: Final = Match(operation="AssumeRole")


class Phase(NamedTuple):
    """From ``at`` (seconds from the start) on, these rules are in force."""

    at: float
    rules: tuple[Rule, ...]
    names: str


class Denial(NamedTuple):
    """From when to when the denied destinations refuse every call, seconds from the start."""

    start: float
    end: float
    resumed_at: float
    """From now on every worker sends to them again: the first probe was accepted."""


_PROBED_SECS: Final = PROBES.first_secs + CONNECT_SECS + READ_SECS + 5.0
"""From a destination's last refusal until it is resumed."""
DENIALS: Final = (
    # Nothing else is done to the workers meanwhile: who has suspended a destination has to resume it.
    Denial(6.0, 12.0, 12.0 + _PROBED_SECS),
    # And amid everything else: one may be stopped with the last refusal on its way to it.
    Denial(60.0, 70.0, 70.0 + LONGEST_STOP_SECS + _PROBED_SECS),
)


def always() -> tuple[Rule, ...]:
    """The rules that hold to the end: a malformed event stays malformed."""
    effect = EntryError("MalformedDetail", "Detail is malformed.")
    return (Rule(effect, Match(detail_contains=(MALFORMED_MARK,)), name=MALFORMED),)


def plan_faults(seed: int, world: World, secs: float) -> list[Phase]:
    """The phases of a run of this length."""
    dice = random.Random(f"{seed}/faults")
    lags = plan_lags(seed, secs)
    moments = [moment for start, end, _ in (*DENIALS, *lags) for moment in (start, end)]
    moment = 1.0
    while moment < secs:
        moments.append(moment)
        moment += dice.uniform(*_PHASE_SECS)
    return [_phase(dice, world, lags, moment) for moment in sorted(moments)]


def _phase(dice: random.Random, world: World, lags: Sequence[Lag], moment: float) -> Phase:
    rules = [*always(), *(rule for lag in lags if lag.start <= moment < lag.end for rule in lag.rules)]
    names = [rule.label for rule in rules[len(always()) :]]
    if any(start <= moment < end for start, end, _ in DENIALS):
        refusal = CallError(400, "AccessDeniedException", "not authorized to perform events:PutEvents")
        rules[:0] = [Rule(refusal, Match(operation="PutEvents", bus=p.bus_arn), name=DENIED) for p in world.denied]
        names.append(DENIED)
    if dice.random() >= _CALM:
        for make in dice.sample(_FAULTS, dice.randint(2, 5)):
            made = make(dice, world)
            rules += made
            names += [rule.label for rule in made]
    return Phase(moment, tuple(rules), " ".join(names) or "calm")


def _entry_throttle(dice: random.Random, _world: World) -> list[Rule]:
    when = Probability(dice.uniform(0.005, 0.05))
    return [Rule(EntryError("ThrottlingException", "Rate exceeded"), when=when, name="entry-throttle")]


def _entry_failure(dice: random.Random, _world: World) -> list[Rule]:
    when = Probability(dice.uniform(0.005, 0.05))
    return [Rule(EntryError("InternalFailure", "Try again."), when=when, name="entry-failure")]


def _server_error(dice: random.Random, _world: World) -> list[Rule]:
    status, body = dice.choice([(500, "aws"), (502, "html"), (503, "aws"), (503, "empty"), (504, "empty")])
    effect = CallError(status, "InternalFailure" if body == "aws" else "", "", body)  # type: ignore[arg-type]
    return [Rule(effect, _PUT, Probability(dice.uniform(0.02, 0.4)), name=f"http-{status}")]


def _reset_before(dice: random.Random, _world: World) -> list[Rule]:
    return [Rule(ResetBefore(), _PUT, Probability(dice.uniform(0.02, 0.15)), name="reset-before")]


def _reset_after(dice: random.Random, _world: World) -> list[Rule]:
    return [Rule(ResetAfter(), _PUT, Probability(dice.uniform(0.005, 0.02)), name="reset-after")]


def _hang(dice: random.Random, world: World) -> list[Rule]:
    """One customer's bus hangs, and now and then anybody's."""
    customer = dice.randrange(world.customers)
    bus = Match(operation="PutEvents", bus=Place(customer, 0).bus_arn)
    return [
        Rule(Hang(), bus, name="hang-bus"),
        Rule(Hang(), _PUT, Probability(dice.uniform(0.002, 0.01)), name="hang"),
    ]


def _slow(dice: random.Random, _world: World) -> list[Rule]:
    secs = round(dice.uniform(0.02, 1.0), 2)
    return [Rule(Latency(secs), _PUT, Probability(dice.uniform(0.1, 0.6)), name=f"{SLOW}:{secs}")]


def _late(dice: random.Random, _world: World) -> list[Rule]:
    """The call is carried out, and its reply comes too late."""
    return [Rule(Latency(READ_SECS + 1.5), _PUT, Probability(dice.uniform(0.002, 0.01)), name=LATE)]


def _garbage(dice: random.Random, _world: World) -> list[Rule]:
    bodies = dice.sample(["empty", "html", "object", "short"], 2)
    when = Probability(dice.uniform(0.01, 0.05))
    return [Rule(Garbage(body), _PUT, when, name=f"garbage-{body}") for body in bodies]  # type: ignore[arg-type]


def _throttled_customer(dice: random.Random, _world: World) -> list[Rule]:
    """The hot customer's bus takes fewer calls than it is sent."""
    match = Match(operation="PutEvents", bus=Place(0, 0).bus_arn)
    effect = CallError(400, "ThrottlingException", "Rate exceeded")
    return [Rule(effect, match, RateAbove(dice.uniform(5, 30)), name="throttle-hot")]


def _sts(dice: random.Random, _world: World) -> list[Rule]:
    effect = dice.choice([CallError(400, "Throttling", "Rate exceeded"), CallError(503, "ServiceUnavailable")])
    when = Probability(dice.uniform(0.2, 0.8))
    return [Rule(effect, _STS, when, name="sts"), Rule(ResetAfter(), _STS, Probability(0.05), name="sts-reset")]


def _expired(dice: random.Random, world: World) -> list[Rule]:
    """Sessions that end early, once each: a second refusal in a row would be the customer's fault."""
    roles = [role for customer in range(world.customers) if (role := role_arn(customer)) is not None]
    chosen = dice.sample(roles, min(5, len(roles)))
    return [Rule(ExpireTokens(), Match(operation="PutEvents", role=role), Times(1), name="expired") for role in chosen]


_FAULTS: Final[list[Callable[[random.Random, World], list[Rule]]]] = [
    _entry_throttle, _entry_failure, _server_error, _reset_before, _reset_after, _hang, _slow, _late, _garbage,
    _throttled_customer, _sts, _expired,
]  # fmt: skip
