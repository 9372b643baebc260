"""The spill: events and the traces of their deliveries in a temporary file, so that memory does not grow with them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Final, NamedTuple, Self, final

from pushrail_stream.core.retry import Fault
from pushrail_stream.errors import OperatorError

_SCHEMA: Final = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA temp_store = FILE;
PRAGMA cache_size = -16384;
CREATE TABLE events (partition INTEGER, offset INTEGER, vendor TEXT, customer TEXT, at INTEGER);
CREATE TABLE traces (
    partition INTEGER, offset INTEGER, destination TEXT, status TEXT, fault TEXT, is_original INTEGER
);
"""
_ROWS: Final = 10_000
"""Rows that are written at once: a batch costs less per row than one statement each, and takes about 3 MiB."""
_MAX_INTEGER: Final = 2**63 - 1
"""SQLite's largest integer, and Kafka's largest offset."""


class SpilledEvent(NamedTuple):
    """A record of the events topic."""

    partition: int
    offset: int
    vendor: str | None
    """None for what cannot be decoded."""
    customer: str
    at_ms: int


class Trace(NamedTuple):
    """A sign of one delivery."""

    partition: int
    offset: int
    destination: str | None
    """None: of the event as a whole."""
    status: str
    fault: Fault | None
    """Of a dead letter."""
    is_original: int
    """1 unless it is of a replay."""


@final
class Spill:
    """Made by `Spill.open`. Raises `OperatorError` when the file cannot be written."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._events: list[SpilledEvent] = []
        self._traces: list[Trace] = []
        self._bounds: dict[int, tuple[int, int]] = {}
        """By partition the lowest and the highest offset of the events."""
        self.count = 0
        """Events."""

    @classmethod
    @contextmanager
    def open(cls) -> Iterator[Self]:
        """An empty one; its file is removed with the block."""
        try:
            with TemporaryDirectory(prefix="pushrail-check-") as folder:
                database = sqlite3.connect(Path(folder) / "check.sqlite", isolation_level=None)
                try:
                    database.executescript(_SCHEMA)
                    database.execute("BEGIN")
                    yield cls(database)
                finally:
                    database.close()
        except sqlite3.Error as error:
            hint = "TMPDIR names another directory"
            raise OperatorError(f"{gettempdir()}: the temporary file cannot be used: {error}; {hint}") from error

    def add_event(self, event: SpilledEvent) -> None:
        """Keep an event."""
        partition, offset = event.partition, event.offset
        low, high = self._bounds.get(partition, (offset, offset))
        self._bounds[partition] = (min(low, offset), max(high, offset))
        self.count += 1
        self._events.append(event)
        if len(self._events) >= _ROWS:
            self._write()

    def add_trace(self, trace: Trace) -> None:
        """Keep a trace. A forged record may name any offset: that is no error, and the trace belongs to no event."""
        if not (0 <= trace.partition <= _MAX_INTEGER and 0 <= trace.offset <= _MAX_INTEGER):
            return
        self._traces.append(trace)
        if len(self._traces) >= _ROWS:
            self._write()

    def may_hold(self, partition: int, offset: int) -> bool:
        """False where there is surely no event, among those that were added."""
        low, high = self._bounds.get(partition, (1, 0))
        return low <= offset <= high

    def __iter__(self) -> Iterator[tuple[SpilledEvent, list[Trace]]]:
        """Every event with its traces, ordered by partition and offset."""
        self._write()
        order = "ORDER BY partition, offset"
        events = self._database.execute(f"SELECT partition, offset, vendor, customer, at FROM events {order}")  # noqa: S608
        columns = "partition, offset, destination, status, fault, is_original"
        traces = self._database.execute(f"SELECT {columns} FROM traces {order}")  # noqa: S608 - our own names
        trace: tuple[int, int, str | None, str, Fault | None, int] | None = next(traces, None)
        for event in events:
            place = event[:2]
            while trace is not None and trace[:2] < place:
                trace = next(traces, None)
            own = []
            while trace is not None and trace[:2] == place:
                own.append(Trace(*trace))
                trace = next(traces, None)
            yield SpilledEvent(*event), own

    def _write(self) -> None:
        self._database.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", self._events)
        self._database.executemany("INSERT INTO traces VALUES (?, ?, ?, ?, ?, ?)", self._traces)
        self._events.clear()
        self._traces.clear()
