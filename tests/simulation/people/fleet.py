"""The fleet: workers that start, stop, roll, crash and freeze, as an orchestrator and its machines make them."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

from pushrail_stream.core.signals import Flooded, Signal
from tests.simulation.oracle.evidence import DisturbanceKind, SignalSeen, WorkerEnd
from tests.simulation.people.troubles import trouble
from tests.simulation.plan import between, number, one_of
from tests.simulation.simulated_worker import Ended, SimWorker

if TYPE_CHECKING:
    from tests.simulation.world import World

SLOTS: Final = 5
"""The largest fleet."""
_GRACE_SECS: Final = 30.0
"""Time between SIGTERM and SIGKILL: Kubernetes' default."""
_ALERT_SECS: Final = 45.0
"""Time between an alert and the first command of an operator, in virtual seconds."""
_LEAVING_SECS: Final = 120.0
"""Longest time until a group is empty: a killed member stays until its session is over."""
_LOOK_SECS: Final = 3.0
"""Time between two looks at the members, in virtual seconds."""
_RESTART_SECS: Final = (1.0, 2.0, 5.0, 10.0)
"""Pauses before restarts of a worker that ends by itself; the last one repeats."""
_DISTURBANCES: Final[dict[Ended, DisturbanceKind]] = {
    "killed": "killed",
    "failed": "failed",
    "refused": "failed",
    "stopped": "start",
}
"""The trouble that the end of a worker is for the others."""


@final
class Slot:
    """The place of one worker. Its processes follow one another, each on a host of its own."""

    def __init__(self, world: World, index: int) -> None:
        self._world = world
        self._index = index
        self._number = 0
        self._failures = 0
        self._back_secs: float | None = None
        """Pause before the next start, when the process was killed."""
        self.is_wanted = False
        self.worker: SimWorker | None = None
        self.clock_offset = 0.0

    @property
    def is_running(self) -> bool:
        """Whether a process runs."""
        return self.worker is not None and self.worker.is_running

    def start(self) -> None:
        """Start a process, unless one runs."""
        self.is_wanted = True
        if self.is_running:
            return
        world = self._world
        self._number += 1
        host = world.scheduler.host(f"worker-{self._index}-{self._number}")
        host.clock_offset = self.clock_offset
        settings, kafka = world.fleet.settings, world.settings.kafka
        if kafka.group_instance_id is not None:
            static = kafka.model_copy(update={"group_instance_id": f"{kafka.group_instance_id}-{self._index}"})
            settings = settings.model_copy(update={"kafka": static})
        if not settings.flood_guard.enabled:
            world.evidence.unguarded.add(host.name)

        def observe(signal: Signal) -> None:
            world.evidence.signals.append(SignalSeen(world.scheduler.now, host.name, signal))
            if isinstance(signal, Flooded):
                world.fleet.end_flood()

        worker = SimWorker(host, settings, world.history, environ=os.environ, observers=[observe], ended=self._on_end)
        self.worker = worker
        world.disturb("start", host=host.name)
        worker.start()

    def stop(self, grace_secs: float = _GRACE_SECS) -> None:
        """SIGTERM, and SIGKILL after ``grace_secs``."""
        self.is_wanted = False
        self._terminate(grace_secs)

    def roll(self, grace_secs: float) -> None:
        """Stop the process, and start the next version when it has ended."""
        if self.is_wanted:
            self._terminate(grace_secs)

    def _terminate(self, grace_secs: float) -> None:
        worker = self.worker
        if worker is not None and worker.is_running:
            worker.terminate()
            self._world.later(grace_secs, partial(self._kill, worker))

    def kill(self, back_secs: float) -> None:
        """SIGKILL. The orchestrator starts another process after ``back_secs``."""
        if self.worker is not None and self.worker.is_running:
            self._failures = 0
            self._kill(self.worker, back_secs)

    def _kill(self, worker: SimWorker, back_secs: float = 1.0) -> None:
        if worker.is_running:
            self._back_secs = back_secs
            worker.host.kill()

    def _on_end(self, worker: SimWorker) -> None:
        world = self._world
        now, host, end = world.scheduler.now, worker.host.name, worker.end or "failed"
        problem = "; ".join(_causes(worker.error))
        name = host if worker.worker is None else worker.worker.id
        ledger = None if worker.ledger is None else asdict(worker.ledger)
        world.evidence.worker_ends.append(WorkerEnd(now, host, name, end, problem, ledger))
        world.disturb(_DISTURBANCES[end], host=host)
        if self.is_wanted:
            self._failures = 0 if end == "stopped" else self._failures + 1
            pause = _RESTART_SECS[min(self._failures, len(_RESTART_SECS) - 1)]
            world.later(pause if self._back_secs is None else self._back_secs, self._start_again)
        self._back_secs = None

    def _start_again(self) -> None:
        if self.is_wanted:
            self.start()


def _causes(error: BaseException | None) -> Iterator[str]:
    """The errors of a group, each with the line that raised it."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _causes(one)
    elif error is not None:
        frames = traceback.extract_tb(error.__traceback__)
        where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
        yield f"{type(error).__name__}: {error}{where}"


@final
class Fleet:
    """All workers."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.slots = [Slot(world, index) for index in range(SLOTS)]
        self.settings = world.settings
        """The settings of the next processes."""
        self.wanted = 0
        self._is_stopped = False

    def scale(self, count: int) -> None:
        """Have this number of workers."""
        self.wanted = count
        for index, slot in enumerate(self.slots):
            if index < count and not self._is_stopped:
                slot.start()
            elif slot.is_wanted:
                slot.stop()

    def end_flood(self) -> None:
        """Do as the runbook says after the flood guard has stopped a worker: the events really are bad."""
        world = self._world
        if self.settings.flood_guard.enabled:
            guard = self.settings.flood_guard.model_copy(update={"enabled": False})
            self.settings = self.settings.model_copy(update={"flood_guard": guard})
            world.disturb("start", _ALERT_SECS + _GRACE_SECS)
            for slot in self.slots:
                world.later(_ALERT_SECS, partial(slot.roll, _GRACE_SECS))

    def stop_all(self) -> None:
        """Stop every worker until `start_all`."""
        self._is_stopped = True
        for slot in self.slots:
            if slot.is_wanted:
                slot.stop()

    def start_all(self) -> None:
        """Have the workers again that there were before `stop_all`."""
        self._is_stopped = False
        self.scale(self.wanted)

    def heal(self) -> None:
        """Let all wanted workers run, with right clocks."""
        for slot in self.slots:
            slot.clock_offset = 0.0
            if slot.worker is not None:
                slot.worker.host.clock_offset = 0.0
        self.start_all()

    @property
    def running(self) -> list[SimWorker]:
        """The processes that run."""
        return [slot.worker for slot in self.slots if slot.worker is not None and slot.worker.is_running]


def while_away(world: World, act: Callable[[], None]) -> None:
    """Stop the fleet, act when the last member has left the group of events, and start the fleet again."""
    world.fleet.stop_all()
    world.disturb("operator", _LEAVING_SECS)
    _act_when_away(world, act, world.elapsed + _LEAVING_SECS)


def _act_when_away(world: World, act: Callable[[], None], until: float) -> None:
    found = world.cluster.coordinator(world.settings.kafka.group_id).describe()
    is_away = not isinstance(found, int) and not found.members and not world.fleet.running
    if not is_away and world.elapsed < until and not world.has_healed:
        world.later(_LOOK_SECS, partial(_act_when_away, world, act, until))
        return
    if is_away and not world.has_healed:
        world.disturb("operator")
        act()
    world.fleet.start_all()


def _running(world: World, worker: int) -> Slot | None:
    """One of the slots whose process runs."""
    slots = [slot for slot in world.fleet.slots if slot.is_running]
    return slots[worker % len(slots)] if slots else None


_ANY = number(0, SLOTS - 1)


@trouble(2.0, least="calm", count=number(1, SLOTS))
def scale_fleet(world: World, *, count: int) -> None:
    """The fleet gets larger or smaller."""
    world.fleet.scale(count)


@trouble(1.0, least="calm", pause=between(0.5, 20), grace_secs=one_of(0.2, 3.0, 30.0))
def roll_fleet(world: World, *, pause: float, grace_secs: float) -> None:
    """A new version replaces the old one, worker by worker."""
    for index, slot in enumerate(world.fleet.slots):
        world.trouble_later(index * pause, partial(slot.roll, grace_secs))


@trouble(4.0, worker=_ANY, back_secs=between(0.5, 60))
def kill_worker(world: World, *, worker: int, back_secs: float) -> None:
    """SIGKILL, or a machine that is gone."""
    slot = _running(world, worker)
    if slot is not None:
        slot.kill(back_secs)


@trouble(3.0, worker=_ANY, secs=between(0.5, 90))
def freeze_worker(world: World, *, worker: int, secs: float) -> None:
    """SIGSTOP, and SIGCONT after less or more than the session's time."""
    slot = _running(world, worker)
    if slot is None or slot.worker is None or slot.worker.host.is_paused:
        return
    host = slot.worker.host
    host.pause()
    world.disturb("paused", secs, host.name)
    world.mend_later(secs, f"freeze of {host.name}", host.resume)


@trouble(2.0, worker=_ANY, secs=one_of(-7_200.0, -60.0, -0.5, 0.5, 30.0, 600.0, 90_000.0), back_secs=between(5, 200))
def jump_clock(world: World, *, worker: int, secs: float, back_secs: float) -> None:
    """The wall clock of a worker's machine jumps, and is set right later."""
    slot = _running(world, worker)
    if slot is None or slot.worker is None:
        return
    slot.clock_offset = slot.worker.host.clock_offset = secs
    world.disturb("clock", back_secs, slot.worker.host.name)
    world.mend_later(back_secs, f"clock of {slot.worker.host.name}", partial(_set_right, slot))


def _set_right(slot: Slot) -> None:
    slot.clock_offset = 0.0
    if slot.worker is not None:
        slot.worker.host.clock_offset = 0.0


@trouble(1.0, worker=_ANY, broker=number(1, 3), secs=between(2, 90))
def cut_network(world: World, *, worker: int, broker: int, secs: float) -> None:
    """Nothing passes between a worker and a broker."""
    slot = _running(world, worker)
    if slot is None or slot.worker is None:
        return
    host, network = slot.worker.host, world.cluster.network
    world.disturb("kafka", secs, host.name)
    network.cut(host, broker)
    world.mend_later(secs, f"network of {host.name}", partial(network.mend, host, broker))


@trouble(0.7, secs=between(5, 60))
def clog_network(world: World, *, secs: float) -> None:
    """Connections of workers to brokers stop passing anything one after another, and recover in another order."""
    dice, network = world.plan.dice(f"clog {world.elapsed}"), world.cluster.network
    world.disturb("kafka", 2 * secs)
    for worker in world.fleet.running:
        for broker in world.cluster.brokers:
            if dice.random() < 0.5:
                world.trouble_later(dice.uniform(0.0, secs), partial(network.cut, worker.host, broker))
                lasts, name = dice.uniform(secs, 2 * secs), f"network of {worker.host.name}"
                world.mend_later(lasts, name, partial(network.mend, worker.host, broker))
