"""The simulated world in place of the real one: threads, time, randomness, Kafka's clients and sockets.

Nothing of the product is changed. Names of the standard library and of client libraries are replaced, in these
libraries, where modules have imported them by name, and where they are default arguments, until the block ends.
"""

from __future__ import annotations

import _thread
import asyncio
import gc
import importlib
import os
import pkgutil
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import FunctionType
from typing import Any, Final, NamedTuple, final

import confluent_kafka
import confluent_kafka.admin
import time_machine

import pushrail_stream.kafka.consumer
import pushrail_stream.kafka.documents
import pushrail_stream.kafka.fleet
import pushrail_stream.kafka.producer
import pushrail_stream.kafka.stretches
from tests.simulation.event_loop import Connect, SimLoop
from tests.simulation.kafka.consumed import SimMessage
from tests.simulation.locks import SimLock, SimRLock
from tests.simulation.scheduler import Condition, Host, Scheduler, SimThread

EPOCH: Final = 1_780_000_000.0
"""The world's wall time in seconds when virtual time begins: a day in 2026."""
_ROOTS: Final = (
    "pushrail_stream",
    "aiohttp",
    "aiobotocore",
    "botocore",
    "prometheus_client",
    "structlog",
    "concurrent",
)
"""Packages whose modules may have imported a replaced name."""
_NAMED: Final = ("asyncio", "threading", "queue", "logging", "uuid", "secrets", "random", "tempfile", "socket")
"""Modules of the standard library that may have."""


_POLLS: Final = {
    pushrail_stream.kafka.stretches: 0.5,
    pushrail_stream.kafka.consumer: 0.5,
    pushrail_stream.kafka.producer: 1.0,
    pushrail_stream.kafka.documents: 1.0,
    pushrail_stream.kafka.fleet: 2.0,
}
"""Longest waits of an idle poll in virtual seconds, in place of 0.1 to 0.5: most steps of a story were idle polls.
A poll ends when something comes, as before."""


class KafkaClients(NamedTuple):
    """The classes in place of librdkafka's."""

    consumer: type
    producer: type
    admin_client: type


@contextmanager
def simulated(scheduler: Scheduler, seed: int, *, kafka: KafkaClients | None, connect: Connect) -> Iterator[None]:
    """Let the product run in the world of this scheduler. One at a time per process.

    A process that has turned garbage collection off ends after this story, and nothing is collected.
    """
    with ExitStack() as stack:
        put = _Replacements(stack)
        _replace_time(put, stack, scheduler)
        _replace_threads(put, scheduler)
        _replace_randomness(put, stack, seed)
        _replace_host_names(put, scheduler)
        _replace_loops(put, stack, scheduler, connect)
        if kafka is not None:
            put.everywhere(confluent_kafka.Consumer, kafka.consumer)
            put.everywhere(confluent_kafka.Message, SimMessage)
            put.everywhere(confluent_kafka.Producer, kafka.producer)
            put.everywhere(confluent_kafka.admin.AdminClient, kafka.admin_client)
        for module, secs in _POLLS.items():
            put.attribute(module, "_POLL_SECS", secs)
        put.apply()
        lives_on = gc.isenabled()
        if lives_on:
            gc.collect()
            gc.disable()  # finalizers would run at moments that depend on the process
            stack.callback(gc.enable)
        put.attribute(sys, "unraisablehook", partial(_report_unraisable, scheduler, sys.unraisablehook))
        yield
        if lives_on:
            gc.collect()


def _report_unraisable(scheduler: Scheduler, report: Callable[[Any], None], error: Any) -> None:
    """Report an exception of a finalizer, unless its host was killed: coroutines of a killed host end in any way."""
    if scheduler.running_host is not None and scheduler.running_host.is_alive:
        report(error)


def _load_product() -> None:
    """Import every module of the product: one that is imported later would keep the replaced names.

    It happens with the import of this module, so a pool's processes have them when they begin.
    """
    for module in pkgutil.walk_packages(pushrail_stream.__path__, "pushrail_stream."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


_load_product()


@final
class _Replacements:
    """Replaces objects under every name by which modules know them."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._new: dict[int, tuple[Any, Any]] = {}

    def attribute(self, owner: Any, name: str, new: Any) -> None:
        """Replace one attribute."""
        old = getattr(owner, name)
        setattr(owner, name, new)
        self._stack.callback(setattr, owner, name, old)

    def everywhere(self, old: Any, new: Any) -> None:
        """Replace an object in all modules that have imported it, when `apply` is called."""
        self._new[id(old)] = (old, new)

    def apply(self) -> None:
        """Walk the modules."""
        for module_name, module in sorted(sys.modules.items()):
            if not _may_hold(module_name):
                continue
            for name, value in list(vars(module).items()):
                if (new := self._new_of(value)) is not None:
                    self.attribute(module, name, new)
                elif getattr(value, "__module__", None) == module_name:
                    for function in _functions_of(value):
                        self._apply_to_defaults(function)

    def _new_of(self, value: Any) -> Any:
        """The object in place of this one; None when it stays."""
        found = self._new.get(id(value))
        return found[1] if found is not None and found[0] is value else None

    def _apply_to_defaults(self, function: FunctionType) -> None:
        """A default argument is an object that a function has got hold of when its module was imported."""
        defaults, named = function.__defaults__ or (), function.__kwdefaults__ or {}
        if any(self._new_of(value) is not None for value in defaults):
            self.attribute(function, "__defaults__", tuple(self._new_of(value) or value for value in defaults))
        if any(self._new_of(value) is not None for value in named.values()):
            changed = {name: self._new_of(value) or value for name, value in named.items()}
            self.attribute(function, "__kwdefaults__", changed)


def _functions_of(value: Any) -> Iterator[FunctionType]:
    """A function itself, or the functions of a class."""
    if isinstance(value, FunctionType):
        yield value
    elif isinstance(value, type):
        yield from (member for member in vars(value).values() if isinstance(member, FunctionType))


def _may_hold(module_name: str) -> bool:
    root = module_name.partition(".")[0]
    return root in _ROOTS or root in _NAMED or root in {"time", "os", "confluent_kafka"}


def _replace_time(put: _Replacements, stack: ExitStack, scheduler: Scheduler) -> None:
    condition = Condition(scheduler)  # nothing notifies it

    def monotonic() -> float:
        return scheduler.now

    def monotonic_ns() -> int:
        return round(scheduler.now * 1e9)

    def sleep(secs: float) -> None:
        condition.wait(secs)

    for old, new in (
        (time.monotonic, monotonic),
        (time.perf_counter, monotonic),
        (time.monotonic_ns, monotonic_ns),
        (time.perf_counter_ns, monotonic_ns),
        (time.sleep, sleep),
    ):
        put.everywhere(old, new)
    clock = stack.enter_context(time_machine.travel(EPOCH, tick=False))

    def wall_ns() -> int:
        host = scheduler.running_host
        return round((EPOCH + scheduler.now + (0.0 if host is None else host.clock_offset)) * 1e9)

    put.attribute(clock, "time_ns", wall_ns)


def _replace_threads(put: _Replacements, scheduler: Scheduler) -> None:
    def lock() -> SimLock:
        return SimLock(scheduler)

    def rlock() -> SimRLock:
        return SimRLock(scheduler)

    def thread(
        group: None = None,
        target: Callable[..., Any] = lambda: None,
        name: str | None = None,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        daemon: bool | None = None,
    ) -> SimThread:
        del group, daemon
        return SimThread(_this_host(scheduler), lambda: target(*args, **(kwargs or {})), (), name or "thread")

    put.everywhere(threading.Thread, thread)
    put.everywhere(threading.Lock, lock)
    put.everywhere(_thread.allocate_lock, lock)
    put.everywhere(threading.RLock, rlock)


def _replace_randomness(put: _Replacements, stack: ExitStack, seed: int) -> None:
    state = random.getstate()
    stack.callback(random.setstate, state)
    random.seed(seed)
    dice = random.Random(f"bytes {seed}")
    put.everywhere(os.urandom, dice.randbytes)


def _replace_host_names(put: _Replacements, scheduler: Scheduler) -> None:
    def host_name() -> str:
        return "world" if scheduler.running is None else scheduler.running.host.name

    put.everywhere(socket.gethostname, host_name)
    put.everywhere(os.getpid, lambda: 4_000 + len(host_name()))


def _replace_loops(put: _Replacements, stack: ExitStack, scheduler: Scheduler, connect: Connect) -> None:
    SimLoop.connect = staticmethod(connect)

    def new_event_loop() -> SimLoop:
        return SimLoop(_this_host(scheduler))

    put.everywhere(asyncio.new_event_loop, new_event_loop)
    if threading.current_thread() is threading.main_thread():
        # Else each `asyncio.run` would install its own handler.
        stack.callback(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, signal.SIG_DFL))


def _this_host(scheduler: Scheduler) -> Host:
    if scheduler.running is None:
        raise RuntimeError("no simulated thread runs")
    return scheduler.running.host
