"""The scraper reads every worker's metrics each second. They must balance in every scrape."""

from __future__ import annotations

import http.client
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from tests.chaos.fleet import Worker

_EVERY_SECS: Final = 1.0
_ANSWER_SECS: Final = 2.0
_STATES: Final = frozenset({"delivered", "dead_lettered", "moved_to_retry", "skipped", "put_back", "dropped"})
_SERIES: Final = re.compile(
    r"^(pushrail_(?:deliveries|buffered_events)\w*)(?:\{([^}]*)\})? ([0-9.eE+-]+)", re.MULTILINE
)
_STATE: Final = re.compile(r'state="([^"]*)"')
_OF: Final = re.compile(r'of="([^"]*)"')
_BUFFERED: Final = ("pushrail_buffered_events events", "pushrail_buffered_events retries")
_MAX_PROBLEMS: Final = 20


class Columns(NamedTuple):
    """The accounting of one worker at one moment."""

    begun: int
    settled: dict[str, int]
    in_flight: int
    buffered: int
    """Events' records begun and not settled: counted by the offset trackers, which know nothing of the rest."""
    retries: int
    """Retries begun and not settled, or read before they are due: of those no delivery has begun."""

    @property
    def problem(self) -> str:
        """The problem with it; empty when there is none."""
        difference = self.begun - sum(self.settled.values()) - self.in_flight
        if difference:
            return f"{difference} more were begun than are in a column"
        if self.in_flight < 0:
            return "something was counted twice"
        # The opposite may hold for a moment: deliveries in flight of a partition that is being given back.
        return "records are open of which no delivery is" if self.buffered and not self.in_flight else ""

    @property
    def is_idle(self) -> bool:
        """Whether nothing is in flight and nothing open."""
        return self.in_flight == self.buffered == self.retries == 0


def read_columns(text: str) -> Columns:
    """The columns in a Prometheus text; raises ValueError when one is missing."""
    settled: dict[str, int] = {}
    single: dict[str, int] = {}
    for name, labels, value in _SERIES.findall(text):
        state, of = _STATE.search(labels), _OF.search(labels)
        if name == "pushrail_deliveries_total" and state is not None:
            settled[state[1]] = settled.get(state[1], 0) + int(float(value))
        else:
            single[name if of is None else f"{name} {of[1]}"] = int(float(value))
    if settled.keys() != _STATES:
        raise ValueError(f"pushrail_deliveries_total has the states {sorted(settled)}, not {sorted(_STATES)}")
    try:
        begun, in_flight = single["pushrail_deliveries_begun_total"], single["pushrail_deliveries_in_flight"]
        if not begun:  # a worker that has just started has no partitions to show
            single = dict.fromkeys(_BUFFERED, 0) | single
        return Columns(begun, settled, in_flight, *(single[name] for name in _BUFFERED))
    except KeyError as error:
        raise ValueError(f"{error} is not among the metrics") from error


def is_ready(worker: Worker) -> bool:
    """Whether the worker has joined its consumer groups and takes events."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{worker.port}/readyz", timeout=_ANSWER_SECS):
            return True
    except (OSError, http.client.HTTPException):  # it starts; an answer of 503 is an OSError too
        return False


class Scraper(threading.Thread):
    """Scrapes until it is stopped; a worker that was killed or stopped does not answer, and that is no fault."""

    def __init__(self, workers: Callable[[], Iterable[Worker]]) -> None:
        super().__init__(name="scraper", daemon=True)
        self._workers = workers
        self._stopping = threading.Event()
        self.checked = 0
        self.problems: list[str] = []

    def stop(self) -> None:
        """End it."""
        self._stopping.set()
        self.join()

    def run(self) -> None:
        """Thread's body."""
        while not self._stopping.wait(_EVERY_SECS):
            for worker in self._workers():
                self._scrape(worker)

    def busy(self) -> list[str]:
        """The workers that have something in flight or open, or do not answer; a line for each."""
        found = [(worker, self._scrape(worker)) for worker in self._workers()]
        return [
            f"worker {worker.number}: {columns or 'no answer'}"
            for worker, columns in found
            if columns is None or not columns.is_idle
        ]

    def _scrape(self, worker: Worker) -> Columns | None:
        try:
            url = f"http://127.0.0.1:{worker.port}/metrics"
            with urllib.request.urlopen(url, timeout=_ANSWER_SECS) as reply:
                columns = read_columns(reply.read().decode())
        except (OSError, urllib.error.URLError, http.client.HTTPException):
            return None  # starting, stopped or gone; that enough of them answered is checked at the end
        except ValueError as error:
            self._note(f"worker {worker.number}: {error}")
            return None
        self.checked += 1
        if columns.problem:
            self._note(f"worker {worker.number} does not balance: {columns}: {columns.problem}")
        return columns

    def _note(self, line: str) -> None:
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(line)
