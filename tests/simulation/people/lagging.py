"""Destinations that fall behind: one customer has many events while its bus takes few, and something else happens."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Final

from tests.simulation.aws.faults import Fault
from tests.simulation.people.drawing import EVENTS
from tests.simulation.people.events import Sent, good_event
from tests.simulation.people.producers import send_events
from tests.simulation.people.registry import any_destination
from tests.simulation.people.troubles import KINDS, apply_trouble, kinds_of, trouble
from tests.simulation.plan import Plan, between, number, one_of

if TYPE_CHECKING:
    from tests.simulation.world import World

_FAR_SECS: Final = 0.8
"""The shortest time in seconds that a far bus takes longer for each answer."""
_FAR_RATE: Final = 20.0
"""Events a second that a far bus takes through the calls that a story allows, unless each would take too long."""
_FAR_SHARE: Final = 0.7
"""The longest such time, as a share of the time-out."""
_SHARES: Final = {"entry:ThrottlingException": 0.7, "entry:InternalFailure": 0.4, "call:ThrottlingException": 0.8}
"""Probability of the faults that do not concern every call."""
_MEANWHILE: Final = (
    "kill_worker", "roll_fleet", "scale_fleet", "freeze_worker", "stop_all_brokers", "stop_broker", "elect_leader",
    "edit_destination", "disable_destination", "delete_destination", "reassign_destination", "limit_destination",
    "deny_by_policy", "lose_own_credentials", "delete_bus", "add_partitions", "retry_now", "elect_unclean",
    "recreate_topic", "remove_old_records", "write_unreadable_batch", "move_offset_back", "reset_offsets",
    "shift_offsets", "mirror_offsets", "replace_newest_records", "jump_clock",
)  # fmt: skip
"""Kinds of troubles that may come while the destination is behind."""


def _meanwhile(dice: Random, plan: Plan) -> str:
    """One of these kinds that the profile has, or none."""
    known = {kind.name for kind in kinds_of(plan.profile)}
    return dice.choice(["", *(name for name in _MEANWHILE if name in known)])


@trouble(
    0,
    destination=any_destination,
    how=one_of(
        "far", "far", "hang", "call:ServiceUnavailable", "connection_refused", "answer_lost", "late", *_SHARES
    ),
    count=number(240, 420),
    burst_secs=between(0.5, 3),
    secs=between(20, 120),
    meanwhile=_meanwhile,
    after_secs=between(2, 30),
)  # fmt: skip
def fall_behind(
    world: World,
    *,
    destination: str,
    how: str,
    count: int,
    burst_secs: float,
    secs: float,
    meanwhile: str,
    after_secs: float,
) -> None:
    """A customer has ``count`` events in ``burst_secs``, while its bus is slow or fails for ``secs``.

    ``meanwhile``: the kind of a trouble that comes ``after_secs``.
    """
    one = world.customers[destination].destination
    if how == "far":
        world.cloud.delays[one.account] = _far_secs(world)
        world.mend_later(secs, f"distance of {destination}", partial(_come_near, world, one.account))
    else:
        faults = world.cloud.faults
        # A connection does not tell the account yet.
        account = None if how == "connection_refused" else one.account
        fault = faults.add(Fault(how, _SHARES.get(how, 1.0), region=one.region, account=account))
        world.mend_later(secs, f"{how} of {destination}", partial(faults.remove, fault))
    host = world.new_host("producer")
    dice = world.plan.dice(host.name)
    host.start(send_events, world, dice, host.name, _events(dice, one.customer, host.name, count), burst_secs / count)
    if meanwhile:
        world.trouble_later(after_secs, partial(_disturb, world, meanwhile, destination))


def _far_secs(world: World) -> float:
    delivery, calls = world.settings.delivery, world.settings.eventbridge
    most = _FAR_SHARE * calls.read_timeout_secs
    return min(most, max(_FAR_SECS, delivery.max_in_flight * delivery.max_entries / _FAR_RATE))


def _come_near(world: World, account: str) -> None:
    world.cloud.delays.pop(account, None)


def _events(dice: Random, customer: str, name: str, count: int) -> Iterator[Sent]:
    for number_ in range(count):
        yield good_event(dice, customer, f"{name}-{number_}", time.time_ns() // 1_000_000)


def _disturb(world: World, kind: str, destination: str) -> None:
    """Let a trouble of this kind happen, to the destination and to the topic of events if it names one."""
    drawn = KINDS[kind].draw(world.plan.dice(f"{kind} {world.elapsed:.1f}"), world.plan, world.elapsed)
    fixed = {"destination": destination, "topic": EVENTS}
    details = {name: fixed.get(name, value) for name, value in drawn.details.items()}
    world.history.count_fault(kind, details=details)
    apply_trouble(world, replace(drawn, details=details))
