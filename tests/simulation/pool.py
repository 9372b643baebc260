"""A pool of processes that play stories, one process for each trial."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final, NamedTuple, final
from unittest.mock import patch

from tests.simulation.trial import Failure, Result, Task, run

CPU_SECS: Final = 120.0
"""CPU seconds after which a story counts as hanging: 20 times as long as a hostile story may take."""
_WALL_FACTOR: Final = 10.0
"""Wall time after which it counts as hanging, as a multiple of `CPU_SECS`: a busy machine takes its time."""
_ENVIRONMENT: Final = {
    # Every trial has the same order of sets of strings, so that a seed gives one story even if a set was iterated.
    "PYTHONHASHSEED": "0",
    # The allocator of the C library asks for huge pages. A story touches 250 MiB, and a page fault and a walk
    # through small pages are expensive in virtual machines: stories took 0.68 of their CPU time on one of them.
    "PYTHONMALLOC": "malloc",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
"""The environment of each trial's interpreter. A C library that does not know a setting ignores it."""


class _Running(NamedTuple):
    process: BaseProcess
    task: Task
    done: Callable[[Result], None]
    report: Path
    since: float


@final
class Pool:
    """Plays stories in at most ``jobs`` processes at once. `Pool.open` makes one."""

    def __init__(self, folder: Path, jobs: int, cpu_secs: float, story: str) -> None:
        self.jobs = jobs
        self._folder = folder
        self._cpu_secs = cpu_secs
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.simulation.trial", story])
        self._waiting: deque[tuple[Task, Callable[[Result], None]]] = deque()
        self._running: dict[Connection, _Running] = {}
        self._number = 0

    @classmethod
    @contextmanager
    def open(cls, *, story: str, jobs: int = 0, cpu_secs: float = CPU_SECS) -> Iterator[Pool]:
        """A pool until the block ends; then its processes end, too. ``jobs`` 0: one for each processor."""
        with (
            patch.dict(os.environ, _ENVIRONMENT),
            tempfile.TemporaryDirectory(prefix="pushrail-simulation-") as folder,
        ):
            pool = cls(Path(folder), jobs or len(os.sched_getaffinity(0)), cpu_secs, story)
            try:
                yield pool
            finally:
                pool._stop()

    def submit(self, task: Task, done: Callable[[Result], None], *, is_next: bool = False) -> None:
        """Play the task when there is room, and call ``done`` with its result. It may submit further tasks.

        ``is_next``: before all that wait.
        """
        (self._waiting.appendleft if is_next else self._waiting.append)((task, done))

    def run(self) -> None:
        """Play until nothing waits and nothing runs."""
        while self._waiting or self._running:
            while self._waiting and len(self._running) < self.jobs:
                self._start(*self._waiting.popleft())
            ready = wait(list(self._running), timeout=1.0)
            for connection in [one for one in self._running if one in ready]:
                self._finish(connection)
            self._end_overdue()

    def play(self, tasks: Iterable[Task]) -> list[Result]:
        """Play these tasks; their results in the same order."""
        results = dict[int, Result]()
        for number, task in enumerate(tasks):
            self.submit(task, partial(results.__setitem__, number))
        self.run()
        return [results[number] for number in sorted(results)]

    def _start(self, task: Task, done: Callable[[Result], None]) -> None:
        self._number += 1
        report = self._folder / f"{self._number}.txt"
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=run, args=(task, theirs, self._cpu_secs, str(report)))
        process.start()
        theirs.close()
        self._running[ours] = _Running(process, task, done, report, time.monotonic())

    def _finish(self, connection: Connection) -> None:
        running = self._running.pop(connection)
        try:
            result: Result | None = connection.recv()
        except EOFError:
            result = None
        connection.close()
        running.process.join()
        if result is None:
            failure: Failure = "hung" if running.process.exitcode in {-signal.SIGPROF, -signal.SIGKILL} else "died"
            text = running.report.read_text() if running.report.exists() else ""
            ended = f"the process ended with {running.process.exitcode}"
            result = Result(running.task, failure, report=text or ended, cpu_secs=self._cpu_secs)
        running.report.unlink(missing_ok=True)
        running.process.close()
        running.done(result)

    def _end_overdue(self) -> None:
        """End trials that wait for real time, which takes no CPU time."""
        for running in self._running.values():
            if time.monotonic() - running.since > self._cpu_secs * _WALL_FACTOR:
                running.process.kill()

    def _stop(self) -> None:
        self._waiting.clear()
        for connection, running in self._running.items():
            running.process.kill()
            running.process.join()
            connection.close()
        self._running.clear()
