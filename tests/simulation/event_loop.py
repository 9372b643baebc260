"""An asyncio event loop on a simulated thread: it waits by the scheduler, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count
from types import CoroutineType
from typing import Any, Final, final

from tests.simulation.scheduler import Condition, Host, HostKilled

Connect = Callable[[Host, Callable[[], asyncio.BaseProtocol], str, int], tuple[Any, asyncio.BaseProtocol]]
"""Makes a connection for a host: transport and protocol. Raises OSError."""
Resolve = Callable[[str, int], Awaitable[list[Any]]]
"""Looks up the addresses of a name and a port, as ``getaddrinfo`` returns them. Raises OSError."""
_MOST_TURNS: Final = 100
"""Turns of a loop at one virtual time, after which a moment passes. A real clock never stands still: code that is a
rounding error too early comes back at once, and its next turn is later."""
_MOST_CLOSINGS: Final = 50
"""Times that a coroutine may wait for something more while it is closed."""
_MIN_WAIT_SECS: Final = 0.000_001
"""Shortest wait in virtual seconds: a timer that is due a rounding error from now must not wait for zero seconds."""


class _Numbered:
    """Hashes by a number in place of an address, so that sets of it have one order in every process."""

    number = 0

    def __hash__(self) -> int:
        return self.number


@final
class _Future(_Numbered, asyncio.Future[Any]):
    """A future of the simulated loop."""


@final
class _Task(_Numbered, asyncio.Task[Any]):
    """A task of the simulated loop."""

    def __init__(self, coroutine: Any, *, loop: SimLoop, **options: Any) -> None:
        self.number = loop.next_number()  # first: asyncio puts the task into a set
        super().__init__(coroutine, loop=loop, **options)


@final
class SimLoop(asyncio.BaseEventLoop):
    """The loop of one simulated thread."""

    connect: Connect
    """The network; set on the class by the substitution."""
    resolve: Resolve
    """The name service; set on the class by the network's `install`."""

    def __init__(self, host: Host) -> None:
        super().__init__()
        self.host = host
        self._woken = Condition(host.scheduler)
        self._is_woken = False
        self._selector = self  # `BaseEventLoop._run_once` asks it
        self.listeners: list[_Listener] = []
        """The servers of the host, in the order of their opening."""
        self._turns = 0
        self._turned_at = 0.0
        self._numbers = count(1)
        self.set_task_factory(_new_task)
        host.after_end.append(self._bury)
        if host.scheduler.running is not None:
            host.scheduler.running.has_loop = True

    def time(self) -> float:
        return self.host.scheduler.now

    def next_number(self) -> int:
        """The number of the next future or task."""
        return next(self._numbers)

    def create_future(self) -> asyncio.Future[Any]:
        """A future whose place in a set does not depend on its address."""
        future = _Future(loop=self)
        future.number = self.next_number()
        return future

    def select(self, timeout: float | None) -> list[Any]:
        """Wait for a call from another thread, or for the time-out."""
        if not self.host.is_alive:
            raise HostKilled(self.host.name)
        if not self._is_woken and (timeout is None or timeout > 0):
            self._woken.wait(None if timeout is None else max(timeout, _MIN_WAIT_SECS))
        elif self._turns_without_time() > _MOST_TURNS:
            self._woken.wait(_MIN_WAIT_SECS)
        self._is_woken = False
        return []

    def _turns_without_time(self) -> int:
        """Turns of the loop in succession at one virtual time."""
        now = self.time()
        self._turns = self._turns + 1 if now == self._turned_at else 0
        self._turned_at = now
        return self._turns

    def _bury(self) -> None:
        """Close the coroutines of a killed host, which would else end at some later moment."""
        for task in sorted(asyncio.all_tasks(self), key=lambda task: (len(task.get_name()), task.get_name())):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            _close(task.get_coro())

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none: connections call `call_soon_threadsafe`."""

    def _write_to_self(self) -> None:
        self._is_woken = True
        self._woken.notify_all()

    def run_in_executor(  # type: ignore[override]
        self, _executor: object, function: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Call on a simulated thread of its own. The executor has no effect."""
        result: asyncio.Future[Any] = self.create_future()

        def resolve(value: Any, error: BaseException | None) -> None:
            if result.cancelled():
                return
            if error is None:
                result.set_result(value)
            else:
                result.set_exception(error)

        def call() -> None:
            try:
                value, error = function(*args), None
            except HostKilled:
                raise
            except BaseException as raised:  # noqa: BLE001 - the future hands it on
                value, error = None, raised
            if not self.is_closed():
                self.call_soon_threadsafe(resolve, value, error)

        self.host.start(call, name=getattr(function, "__name__", "call"))
        return result

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """There is none."""

    async def getaddrinfo(  # type: ignore[override]
        self, host: str, port: int, **_options: Any
    ) -> list[Any]:
        """The addresses of a name."""
        return await type(self).resolve(host, port)

    async def create_connection(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str | None = None,
        port: int | None = None,
        **options: Any,
    ) -> tuple[Any, asyncio.BaseProtocol]:
        """A simulated connection. ``sock`` may be the address that the network gave in place of a socket."""
        if host is None:
            host, port = options["sock"].getpeername()
        return type(self).connect(self.host, protocol_factory, str(host), int(port or 0))

    async def create_server(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: str, port: int, **_options: Any
    ) -> Any:
        """A listener that the world can connect to through `listeners`."""
        listener = _Listener(protocol_factory, host, port or 20_000 + len(self.listeners))
        self.listeners.append(listener)
        return listener


def _new_task(loop: Any, coroutine: Any, **options: Any) -> _Task:
    return _Task(coroutine, loop=loop, **options)


@final
class _Listener:
    """A server: its protocol factory and its address."""

    def __init__(self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: str, port: int) -> None:
        self.protocol_factory = protocol_factory
        self.address = (host, port)
        self.is_open = True

    @property
    def sockets(self) -> list[_Listener]:
        return [self]

    def getsockname(self) -> tuple[str, int]:
        return self.address

    def close(self) -> None:
        self.is_open = False

    async def wait_closed(self) -> None:
        """It closes at once."""


def _close(coroutine: Any) -> None:
    """Close a coroutine, and first those that it waits for: one that waits again while it is closed stays open."""
    for _ in range(_MOST_CLOSINGS):
        if isinstance(waits_for := getattr(coroutine, "cr_await", None), CoroutineType):
            _close(waits_for)
        try:
            coroutine.close()
        except RuntimeError:  # it waits for something more
            continue
        except BaseException:  # noqa: BLE001, S110 - its last steps raise anything: they would need a host that lives
            pass
        return
