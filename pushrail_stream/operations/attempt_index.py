"""The index: attempt records in a local SQLite file, so that a lookup by key does not read the topic.

Rows and the offsets up to which they were read change in one transaction: killed at any moment, the index goes on where
it stopped, and has each record once.

It is smaller than the topic: records are compressed, each with a dictionary of what all of them repeat, and the columns
that are searched hold checksums of the texts. A row that is found is compared by its record, for checksums may collide.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Self, final

from pushrail_stream.errors import OperatorError, UsageError
from pushrail_stream.kafka.reach import reached_kafka
from pushrail_stream.kafka.scan import Scan
from pushrail_stream.kafka.topic_ids import topic_id
from pushrail_stream.operations.attempts import FIELDS, Attempt, AttemptFilter, Indexed, fit_for_index, read_attempt
from pushrail_stream.operations.times import now_ms
from pushrail_stream.operations.topic_reader import Progress
from pushrail_stream.settings.model import Settings

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS source (topic TEXT NOT NULL, version INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value NOT NULL);
CREATE TABLE IF NOT EXISTS offsets (partition INTEGER PRIMARY KEY, next INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS attempts (
    partition INTEGER NOT NULL, offset INTEGER NOT NULL, at INTEGER NOT NULL,
    key INTEGER, origin INTEGER, customer INTEGER, destination INTEGER, vendor INTEGER, event_type INTEGER,
    status INTEGER, code INTEGER, correlation_id INTEGER, replay INTEGER, record BLOB NOT NULL,
    PRIMARY KEY (partition, offset)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_key ON attempts (key);
CREATE INDEX IF NOT EXISTS by_origin ON attempts (origin);
CREATE INDEX IF NOT EXISTS by_correlation ON attempts (correlation_id) WHERE correlation_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS by_customer ON attempts (customer, at);
CREATE INDEX IF NOT EXISTS by_destination ON attempts (destination, at);
CREATE INDEX IF NOT EXISTS by_time ON attempts (at);
"""
_VERSION: Final = 2
_DICTIONARY: Final = (
    b'{"attemptId":"","at":"2026-01-01T00:00:00.000Z","durationMs":1,"vendor":"","customerExternalId":"","destinationId"'
    b':"dst_","eventType":"","idempotencyKey":"","correlationId":null,"trigger":"replay","trigger":"retry","trigger":"live"'
    b',"attempt":1,"status":"skipped","reason":"no_destination","status":"dead_lettered","reason":"rejected","status":"'
    b'retrying","reason":"retryable","status":"delivered","reason":null,"code":"ThrottlingException","code":null,"message":'
    b'null,"httpStatus":200,"requestId":"","eventBridgeEventId":"","batchSize":10,"batchIndex":0,"entryBytes":900,"busArn"'
    b':"arn:aws:events:us-east-1:123456789012:event-bus/","origin":{"topic":"pushrail.events","partition":0,"offset":1,'
    b'"topicId":""},"nextAttemptAt":null,"replayId":null}'
)
"""The fields of an attempt record and the values they often have. Records of this version are read with these bytes."""
_INSERT: Final = (
    f"INSERT OR REPLACE INTO attempts (partition, offset, at, origin, record, {', '.join(FIELDS)}) "  # noqa: S608 - our own names
    f"VALUES ({', '.join('?' * (5 + len(FIELDS)))})"
)
_NOTE: Final = "INSERT OR REPLACE INTO facts VALUES (?, ?)"
_WINDOW: Final = -12
"""Log2 of the window, negative for no header: 4 KiB hold the dictionary and a record, and are quickly set up."""
_DROP_EVERY_MS: Final = 3_600_000
"""An hour between two removals of old attempts, each of which walks the index by time."""
_MEMORY: Final = 5
"""zlib's memory level: its tables are set up for every record, and a record is short."""


@final
class AttemptIndex:
    """One file, for one topic. Made by `AttemptIndex.open`."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    @classmethod
    @contextmanager
    def open(cls, path: Path, topic: str) -> Iterator[Self]:
        """The index of ``topic`` in this file, made when there is none.

        Raises `OperatorError` for another topic's index, for any other file, and for one that cannot be used.
        """
        try:
            database = sqlite3.connect(path, isolation_level=None, timeout=30)
        except sqlite3.Error as error:
            raise OperatorError(f"{path}: the index cannot be opened: {error}") from error
        try:
            _prepare(database, path, topic)
            yield cls(database)
        except sqlite3.OperationalError as error:
            raise OperatorError(f"{path}: the index cannot be used: {error}") from error
        except sqlite3.Error as error:
            raise OperatorError(f"{path}: is no index of attempts: {error}") from error
        finally:
            database.close()

    def is_of(self, topic_id: str | None) -> bool:
        """Whether it was read from the topic that has this id; yes, where one of the two is not known."""
        known = self._fact("topic_id")
        return known is None or topic_id is None or known == topic_id

    def renew(self, topic_id: str | None) -> bool:
        """Clear the index when its topic was created again, because its offsets mean other records. Returns whether."""
        with self._transaction():
            is_outdated = not self.is_of(topic_id)
            if is_outdated:
                for table in ("attempts", "offsets", "facts"):
                    self._database.execute(f"DELETE FROM {table}")  # noqa: S608 - our own names
            if topic_id is not None:
                self._database.execute(_NOTE, ("topic_id", topic_id))
        return is_outdated

    def snapshot(self) -> AbstractContextManager[None]:
        """Read one state of the index within the block, also while records are added."""
        return self._transaction("DEFERRED")

    @property
    def since_ms(self) -> int | None:
        """Attempts older than that have been dropped; None while there are none."""
        found = self._fact("since_ms")
        return None if found is None else int(found)

    def offsets(self) -> dict[int, int]:
        """By partition the next offset to read."""
        return dict(self._database.execute("SELECT partition, next FROM offsets"))

    def add(self, found: Iterable[Indexed], offsets: Mapping[int, int]) -> None:
        """Take records in, and that the topic was read up to ``offsets``: all of it or nothing."""
        with self._transaction():
            self._database.executemany(_INSERT, (_row(one) for one in found))
            self._database.executemany("INSERT OR REPLACE INTO offsets VALUES (?, ?)", offsets.items())

    def drop_before(self, epoch_ms: int) -> int:
        """Drop attempts older than that; how many there were."""
        with self._transaction():
            self._database.execute(_NOTE, ("since_ms", max(epoch_ms, self.since_ms or 0)))
            return self._database.execute("DELETE FROM attempts WHERE at < ?", (epoch_ms,)).rowcount

    def count(self) -> int:
        """Records in the index."""
        [(count,)] = self._database.execute("SELECT count(*) FROM attempts")
        return int(count)

    def find(self, wanted: AttemptFilter, newest: int | None = None) -> Iterator[Attempt]:
        """The attempts that are meant, or the ``newest`` of them, oldest first."""
        conditions, values = _conditions(wanted)
        order = "at, partition, offset" if newest is None else "at DESC, partition DESC, offset DESC"
        query = f"SELECT record FROM attempts {conditions} ORDER BY {order}"  # noqa: S608 - our own names
        read = (read_attempt(_unpacked(record)) for (record,) in self._database.execute(query, values))
        found = (attempt for attempt in read if attempt is not None and wanted.matches(attempt))
        return found if newest is None else reversed(list(islice(found, newest)))

    def _fact(self, name: str) -> Any:
        found = self._database.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if found is None else found[0]

    @contextmanager
    def _transaction(self, kind: Literal["DEFERRED", "IMMEDIATE"] = "IMMEDIATE") -> Iterator[None]:
        with self._database:  # commits, or rolls back
            self._database.execute(f"BEGIN {kind}")
            yield


def _prepare(database: sqlite3.Connection, path: Path, topic: str) -> None:
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    database.executescript(_SCHEMA)
    known = database.execute("SELECT topic, version FROM source").fetchone()
    if known is None:
        database.execute("INSERT INTO source VALUES (?, ?)", (topic, _VERSION))
    elif known != (topic, _VERSION):
        raise OperatorError(
            f"{path}: is the index of {known[0]} and not of {topic} (version {known[1]}): name another file"
        )


def _row(one: Indexed) -> tuple[Any, ...]:
    attempt = one.attempt
    cells = (attempt.get(name) for name in FIELDS.values())
    sums = (_checksum(cell) if isinstance(cell, str) else None for cell in cells)
    return (one.partition, one.offset, attempt.at_ms, _checksum(str(attempt.origin)), _packed(attempt.text), *sums)


def _checksum(text: str) -> int:
    """32 bits, of which SQLite stores no more than four bytes."""
    return zlib.crc32(text.encode(errors="replace")) - 2**31  # an argument may hold bytes that are no UTF-8


def _packed(record: bytes) -> bytes:
    packer = zlib.compressobj(wbits=_WINDOW, memLevel=_MEMORY, zdict=_DICTIONARY)
    return packer.compress(record) + packer.flush()


def _unpacked(packed: bytes) -> bytes:
    return zlib.decompressobj(wbits=_WINDOW, zdict=_DICTIONARY).decompress(packed)


def _conditions(wanted: AttemptFilter) -> tuple[str, list[Any]]:
    conditions, values = [], []
    for column in (*FIELDS, "origin"):
        value = getattr(wanted, column)
        if value is not None:
            conditions.append(f"{column} = ?")
            values.append(_checksum(value))
    for condition, bound in (("at >= ?", wanted.since_ms), ("at < ?", wanted.until_ms)):
        if bound is not None:
            conditions.append(condition)
            values.append(bound)
    return ("WHERE " + " AND ".join(conditions) if conditions else ""), values


class Indexing(NamedTuple):
    """The result of `keep_index`: records added, records kept, and records that cannot be understood."""

    path: str
    added: int
    kept: int
    unreadable: int


def keep_index(
    settings: Settings, keep_ms: int, progress: Progress, *, follow: bool, is_stopped: Callable[[], bool]
) -> Indexing:
    """Add the topic's attempts of the last ``keep_ms`` to the index, to the topic's present end or until stopped.

    Raises `OperatorError`.
    """
    path, topic = settings.history.index, settings.topics.attempts
    if path is None:
        raise UsageError("history.index: is not set: name the file that the index is to be kept in")
    kafka = reached_kafka(settings)
    with AttemptIndex.open(path, topic) as index:
        if index.renew(topic_id(kafka, topic)):
            progress.note(f"{topic} was created again: the index begins again")
        with Scan(kafka, topic, starts=index.offsets(), follow=follow) as scan:
            progress.begin("attempts")
            added, unreadable = _fill(index, scan, keep_ms, progress, is_stopped)
        return Indexing(str(path), added, index.count(), unreadable)


def _fill(
    index: AttemptIndex, scan: Scan, keep_ms: int, progress: Progress, is_stopped: Callable[[], bool]
) -> tuple[int, int]:
    added = unreadable = 0
    since_ms = _drop_old(index, keep_ms)
    for batch in scan:
        found = [fit_for_index(record) for record in batch]
        rows = [one for one in found if one is not None and one.attempt.at_ms >= since_ms]
        if batch:
            index.add(rows, {record.partition: record.offset + 1 for record in batch})
        added += len(rows)
        unreadable += found.count(None)
        progress.at(*scan.progress)
        if now_ms() - keep_ms - since_ms >= _DROP_EVERY_MS:
            since_ms = _drop_old(index, keep_ms)
        if is_stopped():
            break
    return added, unreadable


def _drop_old(index: AttemptIndex, keep_ms: int) -> int:
    """Drop attempts that are too old; the time from which they are kept, epoch ms."""
    since_ms = now_ms() - keep_ms
    index.drop_before(since_ms)
    return since_ms
