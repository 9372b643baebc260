"""One process of the product on a host of its own: a worker as `run` starts it, or an operator's command."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TextIO, cast, final

import orjson

from pushrail_stream.core.ledger import Ledger
from pushrail_stream.documents import open_registry
from pushrail_stream.errors import OperatorError
from pushrail_stream.observe.logging import open_log
from pushrail_stream.ports.pipeline import Observer
from pushrail_stream.settings.model import Settings
from pushrail_stream.worker import Worker, run_worker
from tests.simulation.event_loop import SimLoop
from tests.simulation.history import History
from tests.simulation.ops_page import get_page
from tests.simulation.scheduler import Host, SimThread

Ended = Literal["stopped", "refused", "failed", "killed"]
"""The end of a process: asked to stop; with an `OperatorError`; with any other exception, which is a bug; SIGKILL."""


class _Lines(io.TextIOBase):
    """Takes the log lines of one host."""

    def __init__(self, host: Host, history: History) -> None:
        self._host = host
        self._history = history

    def write(self, line: str) -> int:
        if self._host.is_alive:
            self._history.note("log", host=self._host.name, line=orjson.loads(line))
        return len(line)


@final
class SimWorker:
    """A worker process. It is started once: a restart is another one, on another host of the scheduler."""

    def __init__(
        self,
        host: Host,
        settings: Settings,
        history: History,
        *,
        environ: Mapping[str, str],
        observers: Sequence[Observer] = (),
        ended: Callable[[SimWorker], None] = lambda _worker: None,
    ) -> None:
        """``ended`` is called once, when the process has ended in any way."""
        self.host = host
        self.worker: Worker | None = None
        """The worker's own account; None until it has started."""
        self.end: Ended | None = None
        self.error: BaseException | None = None
        """The exception that ended it."""
        self.ledger: Ledger | None = None
        """The final ledger of a worker that was asked to stop."""
        self._settings = settings.model_copy()  # the first contact with Kafka is remembered by the object
        self._environ = environ
        self._history = history
        self._observers = observers
        self._ended = ended
        self._stop: Callable[[], object] | None = None
        self._loop: SimLoop | None = None
        host.on_thread_error = self._fail
        host.on_end.append(lambda: self._finish("killed"))

    def start(self) -> None:
        """Start the process."""
        self._history.note("worker started", host=self.host.name)
        self.host.start(self._process, name="worker")

    def terminate(self) -> None:
        """Send SIGTERM: the worker drains and ends."""
        self._history.note("worker asked to stop", host=self.host.name)
        self.host.call_later(0, self._on_sigterm)

    def get_page(self, path: str, take: Callable[[bytes], None]) -> None:
        """Get a page of the running worker's ops server. ``take`` gets the answer, if the process lives to send it."""
        if self._loop is not None and not self._loop.is_closed():
            get_page(self._loop, path, take)

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self.end is None

    def _on_sigterm(self) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop)

    def _process(self) -> None:
        try:
            self.ledger = asyncio.run(self._main())
        except OperatorError as error:
            self.error = error
            self._finish("refused")
        except asyncio.CancelledError:
            self._finish("stopped")  # the signal came before the worker had started
        except Exception as error:  # noqa: BLE001 - a bug of the product, which the oracle reports
            self._fail(None, error)
        else:
            self._finish("stopped")

    async def _main(self) -> Ledger:
        task = asyncio.current_task()
        assert task is not None
        self._loop, self._stop = cast("SimLoop", asyncio.get_running_loop()), task.cancel
        log = open_log("info", stream=cast("TextIO", _Lines(self.host, self._history)), as_json=True)
        async with open_registry(self._settings, self._environ) as (catalog, updater):
            return await run_worker(
                self._settings,
                catalog,
                log,
                updater=updater,
                name=self.host.name,
                observers=self._observers,
                started=self._has_started,
            )

    def _has_started(self, worker: Worker) -> None:
        self.worker, self._stop = worker, worker.stop
        self._history.note("worker runs", host=self.host.name, id=worker.id)

    def _fail(self, _thread: SimThread | None, error: BaseException) -> None:
        self.error = error
        self._finish("failed")

    def _finish(self, end: Ended) -> None:
        if self.end is not None:
            return
        self.end = end
        why = "" if self.error is None else f"{type(self.error).__name__}: {self.error}"
        self._history.note("worker ended", host=self.host.name, end=end, why=why)
        self.host.kill()  # its daemon threads end with the process
        self._ended(self)


@final
class SimCommand:
    """An operator's command: a function of the product's `operations`, called on a host of its own."""

    def __init__(self, host: Host, history: History, name: str, function: Callable[[], Any]) -> None:
        self.host = host
        self.name = name
        self.end: Ended | None = None
        self.result: Any = None
        self.error: BaseException | None = None
        self._function = function
        self._history = history
        host.on_thread_error = self._fail
        host.on_end.append(lambda: self._finish("killed"))

    def start(self) -> None:
        """Start the process."""
        self._history.note("command started", host=self.host.name, command=self.name)
        self.host.start(self._process, name=self.name)

    def _process(self) -> None:
        try:
            self.result = self._function()
        except OperatorError as error:
            self.error = error
            self._finish("refused")
        except Exception as error:  # noqa: BLE001 - a bug of the product, which the oracle reports
            self._fail(None, error)
        else:
            self._finish("stopped")

    def _fail(self, _thread: SimThread | None, error: BaseException) -> None:
        self.error = error
        self._finish("failed")

    def _finish(self, end: Ended) -> None:
        if self.end is None:
            self.end = end
            why = "" if self.error is None else f"{type(self.error).__name__}: {self.error}"
            self._history.note("command ended", host=self.host.name, command=self.name, end=end, why=why)
            self.host.kill()
