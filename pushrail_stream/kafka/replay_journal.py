"""The journal of replays: copies for a retry topic and the marks of replayed records, in one transaction."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, final

from confluent_kafka import KafkaError, KafkaException, Producer

from pushrail_stream.core.record import Headers
from pushrail_stream.errors import OperatorError
from pushrail_stream.kafka import client_properties
from pushrail_stream.kafka.errors import FENCED, as_operator_error
from pushrail_stream.kafka.scan import Scan
from pushrail_stream.settings.model import KafkaSettings

_TIMEOUT_SECS: Final = 30.0
_REPLACED: Final = "another replay has been started meanwhile: this one ends here"


@final
class ReplayJournal:
    """There is one at a time in an installation: a new one shuts out the one before, dead or alive."""

    def __init__(self, kafka: KafkaSettings, topic: str, *, role: str = "replay") -> None:
        """End the journal of the same ``role`` before, and undo what a dead one left open. Raises `OperatorError`."""
        self._topic = topic
        self._producer = Producer(client_properties.transactions_producer(kafka, f"{kafka.group_id}.{role}"))
        with as_operator_error(f"no transaction can be begun at {kafka.bootstrap_servers}"):
            self._producer.init_transactions(_TIMEOUT_SECS)

    def write(
        self,
        topic: str,
        copies: Iterable[tuple[bytes | None, bytes | None, Headers]],
        marks: Iterable[tuple[str, bytes]],
    ) -> None:
        """Write all of it or nothing. Raises `OperatorError`, which says if nothing was written or if this is unknown.

        An interrupt in the middle leaves that unknown too: hold SIGINT back until this has returned.
        """
        producer = self._producer
        try:
            producer.begin_transaction()
            for key, value, headers in copies:
                self._produce(topic, key, value, headers)
            for name, value in marks:
                self._produce(self._topic, name.encode(), value, ())
        except KafkaException as error:
            raise self._undone(error) from error
        except BaseException:
            self._abort()
            raise
        self._commit()

    def _commit(self) -> None:
        """Commit. The transaction may be committed already, so it is aborted only if Kafka requires that."""
        until = time.monotonic() + _TIMEOUT_SECS
        while True:
            try:
                self._producer.commit_transaction(_TIMEOUT_SECS)
            except KafkaException as error:
                reason: KafkaError = error.args[0]
                if reason.txn_requires_abort():
                    raise self._undone(error) from error
                if not reason.retriable() or reason.fatal() or time.monotonic() >= until:
                    raise _unknown(reason) from error
            else:
                return

    def _undone(self, error: KafkaException) -> OperatorError:
        """Abort; the error that says so."""
        self._abort()
        reason: KafkaError = error.args[0]
        if reason.code() in FENCED:
            return OperatorError(f"{_REPLACED}, and nothing of its last transaction was written")
        return OperatorError(f"a transaction failed, nothing of it was written: {reason.str()}")

    def _abort(self) -> None:
        with suppress(KafkaException):  # then Kafka does it itself, in time or when the next replay begins
            self._producer.abort_transaction(_TIMEOUT_SECS)

    def _produce(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key, headers=list(headers))
            except BufferError:
                self._producer.poll(0.5)
            else:
                return


def read_marks(kafka: KafkaSettings, topic: str) -> dict[str, bytes]:
    """All marks by key; this shuts no journal out. Raises `OperatorError`, also if there is no such topic."""
    marks: dict[str, bytes] = {}
    with Scan(kafka, topic) as scan:
        for batch in scan:
            marks |= {(r.key or b"").decode(errors="replace"): r.value for r in batch if r.value is not None}
    return marks


def _unknown(reason: KafkaError) -> OperatorError:
    """The error when a commit's result is not known; the next replay finds the transaction committed or undone."""
    if reason.code() in FENCED:
        return OperatorError(_REPLACED)
    return OperatorError(
        f"whether the last transaction was committed is not known ({reason.str()}): "
        "run it again, which repeats nothing that was written"
    )
