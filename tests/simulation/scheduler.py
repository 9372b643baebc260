"""Virtual time for whole hosts: their threads run one after another, and time passes only when all of them wait.

A simulated thread is a greenlet. It runs until it waits for a condition or for a time; then the scheduler resumes the
next one that is ready, in the order in which they became ready. When none is ready, time jumps to the next timer. One
seed therefore gives one execution.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from typing import Any, Final, final

from greenlet import getcurrent, greenlet

from tests.simulation.thread_context import NO_LOOP, restore, save

START_SECS: Final = 1_000.0
"""The first virtual time in seconds. It is not 0, as the real monotonic clock is not."""

Work = Callable[[], None]


class HostKilled(BaseException):
    """Ends the threads of a host that was killed. Product code must not catch it, so it is no Exception."""


@final
class Timer:
    """A call at a time."""

    __slots__ = ("args", "at", "cancelled", "function", "host")

    def __init__(self, at: float, function: Callable[..., Any], args: tuple[Any, ...], host: Host | None) -> None:
        self.at = at
        self.function = function
        self.args = args
        self.host = host
        self.cancelled = False

    def cancel(self) -> None:
        """Drop the call, if it has not been made."""
        self.cancelled = True


@final
class Scheduler:
    """Runs the world's calls and the hosts' threads. One at a time per process."""

    def __init__(self) -> None:
        self.now = START_SECS
        """Virtual seconds."""
        self.running: SimThread | None = None
        """The simulated thread that runs; None while a call of the world runs."""
        self.running_host: Host | None = None
        """The host whose thread or background work runs; None while a call of the world runs."""
        self.hosts: dict[str, Host] = {}
        self.steps = 0
        """Threads resumed and calls made so far."""
        self.main = getcurrent()
        """The greenlet that runs the scheduler."""
        self._ready = deque[tuple[Host | None, Callable[..., Any], tuple[Any, ...]]]()
        self._timers: list[tuple[float, int, Timer]] = []
        self._number = 0

    def host(self, name: str) -> Host:
        """A new host. A host that was killed does not come back: start another one."""
        if name in self.hosts:
            raise ValueError(f"there is a host {name}")
        host = self.hosts[name] = Host(self, name)
        return host

    def call_later(self, secs: float, function: Callable[..., Any], *args: Any) -> Timer:
        """Make a call of the world after ``secs``. It must not block."""
        return self.call_at(self.now + secs, function, *args)

    def call_at(self, at: float, function: Callable[..., Any], *args: Any, host: Host | None = None) -> Timer:
        """Make a call at a time: of the world, or in the background of a host."""
        timer = Timer(at, function, args, host)
        self._number += 1
        heapq.heappush(self._timers, (at, self._number, timer))
        return timer

    def call_soon(self, function: Callable[..., Any], *args: Any, host: Host | None = None) -> None:
        """Make a call after those that are ready, without any time passing."""
        self._ready.append((host, function, args))

    def run(self, until: float) -> None:
        """Run up to this virtual time. Raises what a call of the world or a simulated thread raised."""
        if self.running is not None:
            raise RuntimeError("a simulated thread cannot run the scheduler")
        ready, timers = self._ready, self._timers
        while True:
            while ready:
                self._do(*ready.popleft())
            while timers and timers[0][2].cancelled:
                heapq.heappop(timers)
            if not timers or timers[0][0] > until:
                self.now = max(self.now, until)
                return
            at, _, timer = heapq.heappop(timers)
            self.now = max(self.now, at)
            self._do(timer.host, timer.function, timer.args)

    def run_until(self, done: Callable[[], bool], longest_secs: float) -> bool:
        """Run until ``done``, at most this many virtual seconds; the last answer. It asks after each step in time."""
        end = self.now + longest_secs
        while not done():
            while self._timers and self._timers[0][2].cancelled:
                heapq.heappop(self._timers)
            if not self._ready and (not self._timers or self._timers[0][0] > end):
                self.now = max(self.now, end)
                return done()
            self.run(self.now if self._ready else self._timers[0][0])
        return True

    def block(self, secs: float | None) -> bool:
        """Let the running thread wait; True if it was woken, False if the time is over."""
        thread = self.running
        if thread is None:
            raise RuntimeError("only a simulated thread can wait")
        host = thread.host
        if not host.is_alive:
            raise HostKilled(host.name)
        thread.generation += 1
        timer = None
        if secs is not None:
            timer = self.call_at(self.now + max(0.0, secs), thread.expire, thread.generation, host=host)
        thread.is_waiting = True
        woken: bool = self.main.switch()
        if timer is not None:
            timer.cancelled = True
        return woken

    def _do(self, host: Host | None, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if host is not None:
            if not host.is_alive:
                return
            if host.is_paused:
                host.held_back.append((function, args))
                return
        self.steps += 1
        self.running_host = host
        function(*args)
        self.running_host = None

    def resume(self, thread: SimThread, *, woken: bool) -> None:
        """Continue a thread until it waits again or ends; called by the scheduler alone."""
        before, self.running = self.running, thread
        if thread.has_loop:
            restore(thread.context)
        try:
            thread.greenlet.switch(woken)
        finally:
            self.running = before
            if thread.has_loop:
                thread.context = save()

    def throw(self, thread: SimThread) -> None:
        """End a thread of a killed host."""
        before, self.running = self.running, thread
        restore(thread.context)
        try:
            thread.greenlet.throw(HostKilled(thread.host.name))
        finally:
            self.running = before
            save()


@final
class SimThread:
    """A thread of a host."""

    def __init__(self, host: Host, function: Callable[..., Any], args: tuple[Any, ...], name: str) -> None:
        self.host = host
        self.name = name
        self.greenlet = greenlet(self._main, host.scheduler.main)
        self.has_loop = False
        """Whether it has run an event loop."""
        self.context = NO_LOOP
        self.generation = 0
        """Number of the present wait, so that a late wake-up or time-out of an earlier one does nothing."""
        self.is_waiting = False
        self.has_ended = False
        self.error: BaseException | None = None
        """The exception that ended it."""
        self._ended = Condition(host.scheduler)
        self._function = function
        self._args = args

    def wake(self) -> None:
        """End its wait, if it waits."""
        if self.is_waiting:
            self.is_waiting = False
            host = self.host
            host.scheduler.call_soon(self._go_on, self.generation, host=host)

    def expire(self, generation: int) -> None:
        """End the wait of this number by time."""
        if self.is_waiting and generation == self.generation:
            self.is_waiting = False
            self.host.scheduler.resume(self, woken=False)

    def join(self, timeout: float | None = None) -> None:
        """Wait in another simulated thread for its end."""
        end = None if timeout is None else self.host.scheduler.now + timeout
        while not self.has_ended:
            left = None if end is None else end - self.host.scheduler.now
            if left is not None and left <= 0:
                return
            self._ended.wait(left)

    def start(self) -> None:
        """Begin, after the threads that are ready."""
        self.host.scheduler.call_soon(self._go_on, self.generation, host=self.host)

    def end(self) -> None:
        """Unwind it: its host was killed."""
        self.is_waiting = False
        if self.greenlet.gr_frame is not None:
            self.host.scheduler.throw(self)
        self.has_ended = True

    def _go_on(self, generation: int) -> None:
        if generation == self.generation and not self.has_ended:
            self.host.scheduler.resume(self, woken=True)

    def _main(self, _woken: object) -> None:
        host = self.host
        try:
            self._function(*self._args)
        except HostKilled:
            if host.is_alive:
                raise
        except BaseException as error:  # noqa: BLE001 - the host judges it
            self.error = error
            if host.is_alive:
                host.on_thread_error(self, error)
        finally:
            self.has_ended = True
            host.threads.pop(self, None)
            self._ended.notify_all()


@final
class Host:
    """A machine or a container: its threads, its wall clock, and its life."""

    def __init__(self, scheduler: Scheduler, name: str) -> None:
        self.scheduler = scheduler
        self.name = name
        self.is_alive = True
        self.is_paused = False
        self.clock_offset = 0.0
        """Seconds that its wall clock is ahead of the world's."""
        self.threads: dict[SimThread, None] = {}
        self.held_back = deque[tuple[Callable[..., Any], tuple[Any, ...]]]()
        """Work that became due while the host was paused."""
        self.on_end: list[Work] = []
        """Called when the host is killed, before its threads end."""
        self.after_end: list[Work] = []
        """Called after its threads have ended."""
        self.on_thread_error: Callable[[SimThread, BaseException], None] = _raise
        """Called with the exception that ended a thread."""

    def start(self, function: Callable[..., Any], *args: Any, name: str = "main") -> SimThread:
        """Start a thread."""
        thread = SimThread(self, function, args, name)
        self.threads[thread] = None
        thread.start()
        return thread

    def call_later(self, secs: float, function: Callable[..., Any], *args: Any) -> Timer:
        """Make a call in the background of this host: it waits while the host is paused, and dies with it."""
        return self.scheduler.call_at(self.scheduler.now + secs, function, *args, host=self)

    def pause(self) -> None:
        """Stop all its threads and background work (SIGSTOP)."""
        self.is_paused = True

    def resume(self) -> None:
        """Go on (SIGCONT)."""
        self.is_paused = False
        while self.held_back:
            function, args = self.held_back.popleft()
            self.scheduler.call_soon(function, *args, host=self)

    def kill(self) -> None:
        """End everything at once (SIGKILL). Takes effect after the present step when its own thread calls."""
        if self.scheduler.running is not None:
            self.scheduler.call_soon(self.kill)
            return
        if not self.is_alive:
            return
        self.is_alive = False
        self.held_back.clear()
        for work in self.on_end:
            work()
        for thread in list(self.threads):
            thread.end()
        self.threads.clear()
        for work in self.after_end:
            work()


@final
class Condition:
    """Simulated threads wait for it; a thread or a call of the world notifies them."""

    __slots__ = ("_scheduler", "_waiting")

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._waiting: list[SimThread] = []

    def wait(self, secs: float | None = None) -> bool:
        """Wait; False when the time is over without a notification."""
        thread = self._scheduler.running
        if thread is None:
            raise RuntimeError("only a simulated thread can wait")
        self._waiting.append(thread)
        try:
            return self._scheduler.block(secs)
        finally:
            if thread in self._waiting:
                self._waiting.remove(thread)

    def notify_all(self) -> None:
        """Wake those that wait."""
        waiting, self._waiting = self._waiting, []
        for thread in waiting:
            thread.wake()

    def notify(self) -> None:
        """Wake the one that has waited longest."""
        if self._waiting:
            self._waiting.pop(0).wake()


def _raise(_thread: SimThread, error: BaseException) -> None:
    raise error
