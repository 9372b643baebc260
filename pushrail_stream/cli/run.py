"""``pushrail-stream run``: the workers."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from pushrail_stream.cli.options import Options, ask, common_options
from pushrail_stream.cli.process import (
    allow_many_sockets,
    on_signal,
    return_free_pages,
    return_large_blocks,
    run_loop,
    signal_handlers,
)  # fmt: skip
from pushrail_stream.core.ledger import Ledger
from pushrail_stream.errors import OperatorError, UsageError

if TYPE_CHECKING:
    import asyncio
    from multiprocessing.context import SpawnProcess

    from pushrail_stream.observe.logging import Logger
    from pushrail_stream.operations.first_start import NewGroup
    from pushrail_stream.settings.model import Settings
    from pushrail_stream.worker import Worker

_NAME: Final = "pushrail-stream"
_LAST_PORT: Final = 65_535
_COLLECT_SECS = 60.0
"""Seconds between two collections of the younger objects. Each takes 20 ms in a busy worker."""
_FULL_COLLECTION = 10
"""Every tenth collection walks all objects."""


@click.command(epilog="Example: pushrail-stream run --workers 2 --config config/pushrail.yaml")
@click.option(
    "--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Run this many worker processes."
)
@click.option(
    "--from-beginning",
    is_flag=True,
    help="Deliver every record there is, if the group has never committed an offset, and do not ask.",
)
@common_options
def run(options: Options, workers: int, *, from_beginning: bool) -> None:
    """Consume events and deliver them until SIGTERM or SIGINT, then finish what is in flight, commit and exit 0.

    Each worker is a process and a member of the consumer group; a topic needs at least as many partitions as there are
    workers. The first worker serves metrics and health on http.port, the second one on the next port, and so on; with
    port 0 the system chooses each port, and the log names it. When one worker fails, the command stops the others and
    exits 1, or 2 when the input is wrong. Logs go to stderr: for people on a terminal, as JSON lines with --json or
    anywhere else.

    A group that has never committed an offset would deliver every record there is, also those that another group has
    delivered. The command says so, with their number. On a terminal it asks; elsewhere it goes on. The setting
    kafka.start (earliest, latest, refuse) or --from-beginning decides it beforehand.
    """
    from pushrail_stream.observe.logging import open_log

    settings = options.settings
    if workers > 1 and settings.http.port + workers - 1 > _LAST_PORT:
        raise UsageError(f"http.port: {workers} workers need a port each, and there is none after {_LAST_PORT}")
    if from_beginning:
        settings = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"start": "earliest"})})
    log = open_log(options.log_level, as_json=options.json, worker=_NAME)
    log.info("starting", kafka=settings.kafka.bootstrap_servers, workers=workers)
    try:
        _decide_start(options, settings, log)
    except KeyboardInterrupt:
        _log_end(log, Ledger())  # nothing has been begun
        return
    if workers == 1:
        _work(settings, log, _NAME)
    else:
        _supervise(options, workers, settings.http.port)


def _decide_start(options: Options, settings: Settings, log: Logger) -> None:
    """Say once, before any worker starts, what a new group would deliver, and where it begins."""
    from pushrail_stream.blocking import in_daemon_thread
    from pushrail_stream.documents import check_registry
    from pushrail_stream.operations.first_start import decide_start, find_new_group

    run_loop(in_daemon_thread(check_registry, settings, os.environ))  # the decision cannot be taken back
    new_group = run_loop(in_daemon_thread(find_new_group, settings))
    if new_group is not None:
        is_person = not options.json and all(one is not None and one.isatty() for one in (sys.stdin, sys.stderr))
        log.warning("first_start", message=decide_start(settings, new_group, _ask if is_person else None))


def _ask(new_group: NewGroup) -> bool:
    return ask(f"{new_group}. Begin at the earliest?")


def _work(settings: Settings, log: Logger, name: str) -> None:
    """One worker, in this process."""
    allow_many_sockets()
    return_large_blocks()
    _tune_memory()
    _log_end(log, run_loop(_run_worker(settings, log, name)))


def _log_end(log: Logger, ledger: Ledger) -> None:
    log.info(
        "stopped",
        begun=ledger.begun,
        delivered=ledger.delivered,
        dead_lettered=ledger.dead_lettered,
        skipped=ledger.skipped,
        dropped=ledger.dropped,
        in_flight=ledger.in_flight,
    )


def _with_port(settings: Settings, port: int) -> Settings:
    return settings.model_copy(update={"http": settings.http.model_copy(update={"port": port})})


def collect_now_and_then(loop: asyncio.AbstractEventLoop, number: int = 1) -> None:
    """Run the cycle collector by the clock: with its high threshold, a quiet worker would not run it for hours.

    Sign-ins, calls and revoked partitions leave no reference cycles. This is the safety net for all else. The memory
    that bursts of calls have left goes back to the system.
    """

    def collect() -> None:
        gc.collect(1 if number % _FULL_COLLECTION else 2)
        return_free_pages()
        collect_now_and_then(loop, number + 1)

    loop.call_later(_COLLECT_SECS, collect)


async def _run_worker(settings: Settings, log: Logger, name: str) -> Ledger:
    import asyncio

    from pushrail_stream.documents import open_registry
    from pushrail_stream.worker import run_worker

    collect_now_and_then(asyncio.get_running_loop())

    def started(worker: Worker) -> None:
        on_signal(worker.stop)
        log.info("listening", worker_id=worker.id, host=settings.http.host, port=worker.http_port)

    try:
        async with open_registry(settings, os.environ) as (catalog, updater):
            return await run_worker(settings, catalog, log, updater=updater, name=name, started=started)
    except asyncio.CancelledError:
        return Ledger()  # a signal came before the worker had started, so nothing has been begun


def _tune_memory() -> None:
    """Keep the cycle collector away from what is held by design: tens of thousands of deliveries, none in a cycle.

    With Python's defaults it walks them over and over: measured at a tenth of the worker's CPU time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


def _child(options: Options, name: str, port: int) -> None:
    from pushrail_stream.observe.logging import open_log

    log = open_log(options.log_level, as_json=options.json, worker=name)
    try:
        settings = _with_port(options.settings, port)
        log.info("starting", kafka=settings.kafka.bootstrap_servers)
        _work(settings, log, name)
    except OperatorError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)


def _supervise(options: Options, workers: int, port: int) -> None:
    """Run the workers as spawned processes: librdkafka does not survive a fork."""
    import multiprocessing

    spawn = multiprocessing.get_context("spawn")
    crew = _Crew(
        [
            spawn.Process(
                target=_child,
                args=(options, f"pushrail-stream-{number}", port and port + number - 1),
                name=f"worker {number}",
            )
            for number in range(1, workers + 1)
        ]
    )
    with signal_handlers(crew.stop):
        failed = crew.run()
    if failed is not None:
        kind = UsageError if failed.exitcode == UsageError.exit_code else OperatorError
        raise kind(f"{failed.name} ended with exit code {failed.exitcode}; the others were stopped")


class _Crew:
    """Worker processes that live and end together."""

    def __init__(self, processes: Sequence[SpawnProcess]) -> None:
        self._processes = processes
        self._stopping = False

    def stop(self) -> None:
        """Ask every worker to drain and end."""
        self._stopping = True
        for process in self._processes:
            if process.is_alive():
                process.terminate()

    def run(self) -> SpawnProcess | None:
        """Until all have ended; the first that ended without being asked, or badly."""
        from multiprocessing.connection import wait

        for process in self._processes:
            process.start()
        failed = None
        running = list(self._processes)
        while running:
            wait([process.sentinel for process in running])
            for process in [process for process in running if not process.is_alive()]:
                running.remove(process)
                # One that was still starting when it was told to end had begun nothing.
                ended_well = self._stopping and process.exitcode in {0, -signal.SIGTERM}
                if failed is None and not ended_well:
                    failed = process
                    self.stop()
        return failed
