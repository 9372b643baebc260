"""Locks of `threading` for simulated threads. The standard library's conditions, events and futures use them."""

from __future__ import annotations

from typing import final

from tests.simulation.scheduler import Condition, Scheduler, SimThread


@final
class SimLock:
    """`threading.Lock` for simulated threads."""

    __slots__ = ("_is_held", "_released", "_scheduler")

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._is_held = False
        self._released: Condition | None = None
        """Made by the first thread that waits: most locks are never waited for."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:  # noqa: FBT001, FBT002 - as in threading
        if self._is_held and not (blocking and self._wait(timeout)):
            return False
        self._is_held = True
        return True

    def _wait(self, timeout: float) -> bool:
        """Wait until nobody holds it; False when the time is over."""
        scheduler = self._scheduler
        if self._released is None:
            self._released = Condition(scheduler)
        end = None if timeout < 0 else scheduler.now + timeout
        while self._is_held:
            left = None if end is None else end - scheduler.now
            if left is not None and left <= 0:
                return False
            self._released.wait(left)
        return True

    def release(self) -> None:
        if not self._is_held:
            raise RuntimeError("release unlocked lock")
        self._is_held = False
        if self._released is not None:
            self._released.notify()

    def locked(self) -> bool:
        return self._is_held

    __enter__ = acquire

    def __exit__(self, *_: object) -> None:
        self.release()


@final
class SimRLock:
    """`threading.RLock` for simulated threads."""

    __slots__ = ("_count", "_lock", "_owner", "_scheduler")

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._lock = SimLock(scheduler)
        self._owner: SimThread | None = None
        self._count = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:  # noqa: FBT001, FBT002 - as in threading
        running = self._scheduler.running
        if self._count and self._owner is running:
            self._count += 1
            return True
        if not self._lock.acquire(blocking, timeout):
            return False
        self._owner, self._count = running, 1
        return True

    def release(self) -> None:
        if not self._count or self._owner is not self._scheduler.running:
            raise RuntimeError("cannot release un-acquired lock")
        self._count -= 1
        if not self._count:
            self._owner = None
            self._lock.release()

    __enter__ = acquire

    def __exit__(self, *_: object) -> None:
        self.release()

    # `threading.Condition` uses these.

    def _release_save(self) -> tuple[int, SimThread | None]:
        saved = self._count, self._owner
        self._count, self._owner = 0, None
        self._lock.release()
        return saved

    def _acquire_restore(self, saved: tuple[int, SimThread | None]) -> None:
        self._lock.acquire()
        self._count, self._owner = saved

    def _is_owned(self) -> bool:
        return bool(self._count) and self._owner is self._scheduler.running
