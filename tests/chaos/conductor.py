"""The conductor: carries out the schedule and the plan of faults, replaces workers, and reports the progress."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from itertools import count
from typing import Final

from tests.chaos.broker import Broker
from tests.chaos.bus import Bus
from tests.chaos.faults import Phase, always
from tests.chaos.fleet import FEWEST, MOST, Fleet, Worker
from tests.chaos.schedule import Action

_TURN_SECS: Final = 0.05
_SAY_SECS: Final = 5.0
_LATER_SECS: Final = 1.0
"""A disturbance that cannot happen now (no worker is free, the broker is down) is tried again."""


class Conductor:
    """Does one thing after another, never two at once."""

    def __init__(self, fleet: Fleet, broker: Broker, bus: Bus, say: Callable[[str], None]) -> None:
        self._fleet = fleet
        self._broker = broker
        self._bus = bus
        self._say = say
        self._started = time.monotonic()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._phase = "calm"
        self._say_at = 0.0
        self.tell: Callable[[], str] = lambda: ""
        """More for the progress line."""

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def plan(self, actions: list[Action], phases: list[Phase]) -> None:
        """The disturbances to come."""
        for action in actions:
            self._at(action.at, lambda action=action: self._act(action))  # type: ignore[misc]
        for phase in phases:
            self._at(phase.at, lambda phase=phase: self._enter(phase))  # type: ignore[misc]

    def run(self, is_over: Callable[[], bool]) -> None:
        """Until everything planned is done and ``is_over`` says so."""
        while self._due or self._broker.is_busy or not is_over():
            self.turn()
            time.sleep(_TURN_SECS)

    def turn(self) -> None:
        """Carry out the disturbances that are due."""
        for _ in range(self._fleet.look()):
            self._at(self.elapsed + _LATER_SECS, self._replace)
        while self._due and self._due[0][0] <= self.elapsed:
            heapq.heappop(self._due)[2]()
        if self.elapsed >= self._say_at:
            self._say_at = self.elapsed + _SAY_SECS
            workers = " ".join(_show(worker) for worker in self._fleet.workers)
            away = ", broker away" if self._broker.is_busy else ""
            self._say(f"{self.elapsed:5.0f} s  {self.tell()}, workers {workers}{away}; faults: {self._phase}")

    def calm(self) -> None:
        """No faults any more, but for what can never be right."""
        self._bus.set_plan(always())
        self._phase = "over"
        for worker in self._fleet.workers:
            self._fleet.resume(worker)

    def _at(self, moment: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, (moment, next(self._order), act))

    def _enter(self, phase: Phase) -> None:
        self._bus.set_plan(phase.rules)
        self._phase = phase.names

    def _act(self, action: Action) -> None:
        if action.deed in {"broker_kill", "broker_stop"}:
            done = self._restart_broker(action)
        elif action.deed == "join":
            done = self._join(action)
        else:
            done = self._harm(action)
        if not done:
            self._at(self.elapsed + _LATER_SECS, lambda: self._act(action))

    def _restart_broker(self, action: Action) -> bool:
        if self._broker.is_busy:
            return False
        self._say(f"{self.elapsed:5.0f} s  {action.deed}, away for {action.secs:.1f} s")
        self._broker.restart("broker_kill" if action.deed == "broker_kill" else "broker_stop", action.secs)
        return True

    def _join(self, action: Action) -> bool:
        if len(self._fleet.workers) >= MOST:
            return True
        worker = self._fleet.start()
        self._say(f"{self.elapsed:5.0f} s  worker {worker.number} joins for {action.secs:.1f} s")
        self._at(self.elapsed + action.secs, lambda: self._leave(worker))
        return True

    def _leave(self, worker: Worker) -> None:
        if worker in self._fleet.workers and worker.is_free:
            self._fleet.terminate(worker)

    def _harm(self, action: Action) -> bool:
        worker = self._fleet.pick(action.pick)
        if worker is None:
            return False
        self._say(f"{self.elapsed:5.0f} s  {action.deed} worker {worker.number}, {action.secs:.1f} s")
        match action.deed:
            case "kill":
                self._fleet.kill(worker)
                self._at(self.elapsed + action.secs, self._replace)
            case "terminate":
                self._fleet.terminate(worker)
                self._at(self.elapsed + action.secs, self._replace)
            case _:
                self._fleet.stop(worker)
                self._at(self.elapsed + action.secs, lambda: self._fleet.resume(worker))
        return True

    def _replace(self) -> None:
        staying = sum(worker.asked_at is None for worker in self._fleet.workers)
        if staying < FEWEST or len(self._fleet.workers) < MOST:
            self._fleet.start()


def _show(worker: Worker) -> str:
    mark = "!" if worker.asked_at is not None else "z" if worker.stopped_at is not None else ""
    return f"{worker.number}{mark}"
