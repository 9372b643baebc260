"""Virtual time: an event loop whose clock stands still while there is work, and else jumps to the next timer.

A test of an hour takes milliseconds, always in the same order, and its times are exact. Work that can never go on
raises `Deadlock`, and an error in a callback, which asyncio would only log, fails the test.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar, final

_T = TypeVar("_T")
_P = ParamSpec("_P")
_START_SECS = 1_000.0
"""Not 0, as the real monotonic clock is not: nothing may lean on it."""


class Deadlock(RuntimeError):  # noqa: N818 - it is the sentence a person reads
    """Nothing is ready and no timer is set: whatever the test awaits will never come."""


@final
class _JumpingSelector(selectors.SelectSelector):
    """Instead of waiting for a time-out it moves the clock by it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = _START_SECS
        self.on_step: Callable[[], None] | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if (check := self.on_step) is not None:
            self.on_step = None  # a failed check is not asked again while the loop cleans up
            check()
            self.on_step = check
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise Deadlock("nothing is ready and no timer is set")
            self.now += timeout
        return ready


@final
class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Runs like asyncio's own loop, but its time is virtual."""

    def __init__(self) -> None:
        self._jumps = _JumpingSelector()
        self.failures: list[BaseException] = []
        super().__init__(self._jumps)

    def time(self) -> float:
        return self._jumps.now

    def call_at(  # type: ignore[override]  # and this is why: a plain Handle is no TimerHandle
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """As in uvloop, work that is due within half a millisecond is no timer."""
        if when - self.time() < 0.0005:
            return self.call_soon(callback, *args, context=context)
        return super().call_at(when, callback, *args, context=context)

    @property
    def elapsed(self) -> float:
        """Virtual seconds since the loop began, to the microsecond."""
        return round(self._jumps.now - _START_SECS, 6)

    def after_each_step(self, check: Callable[[], None] | None) -> None:
        """Call ``check`` between any two steps of the loop; its exception ends the run."""
        self._jumps.on_step = check

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.failures.append(error if error is not None else RuntimeError(str(context.get("message"))))


@final
class VirtualClock:
    """A wall clock that follows the running loop's virtual time, until a test sets it."""

    def __init__(self, start_ms: int = 1_780_000_000_000) -> None:
        self._loop = virtual_loop()
        self._start_ms = start_ms

    def set_back(self, secs: float) -> None:
        """Set the clock."""
        self._start_ms -= round(secs * 1000)

    def now_ms(self) -> int:
        return self._start_ms + round(self._loop.elapsed * 1000)


def virtual_loop() -> VirtualTimeLoop:
    """The running loop, which has to be a virtual one."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    return loop


def run(main: Coroutine[Any, Any, _T]) -> _T:
    """Run to the end in virtual time; raises what ``main`` raised, else what callbacks did."""
    loop = VirtualTimeLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        result = runner.run(main)
    if loop.failures:
        raise BaseExceptionGroup("callbacks failed", loop.failures)
    return result


def in_virtual_time(story: Callable[_P, Coroutine[Any, Any, None]]) -> Callable[_P, None]:
    """Make a test of a coroutine function, without any loop of pytest's."""

    @functools.wraps(story)
    def test(*args: _P.args, **kwargs: _P.kwargs) -> None:
        run(story(*args, **kwargs))

    return test
