"""The journal of replays: copies for a retry topic and the marks of what was replayed, in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Self, final

from confluent_kafka import KafkaError, KafkaException, Producer

from pushrail_stream.core.record import Headers
from pushrail_stream.kafka.options import KafkaOptions
from pushrail_stream.kafka.scan import Scan
from pushrail_stream.ports import Failed

_TIMEOUT_SECS: Final = 30.0
_FENCED: Final = frozenset({KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH})  # noqa: SLF001


@final
class ReplayJournal:
    """One at a time in an installation: whoever opens it shuts out who had it before, dead or alive."""

    def __init__(self, producer: Producer, options: KafkaOptions, topic: str) -> None:
        self._producer = producer
        self._options = options
        self._topic = topic

    @classmethod
    @contextmanager
    def open(cls, options: KafkaOptions, topic: str) -> Iterator[Self]:
        """Ready to write. What a dead one had begun and not committed is undone. Raises `Failed`."""
        properties: dict[str, Any] = {
            **options.producer(),
            "transactional.id": f"{options.group_id}.replay",
            "transaction.timeout.ms": 60_000,
            "error_cb": lambda _error: None,
        }
        producer = Producer(properties)
        try:
            producer.init_transactions(_TIMEOUT_SECS)
        except KafkaException as error:
            raise Failed(
                f"no transaction can be begun at {options.bootstrap_servers}: {error.args[0].str()}"
            ) from error
        yield cls(producer, options, topic)

    def marks(self) -> Mapping[str, bytes]:
        """Everything that is marked, by key. Raises `Failed`, also where there is no such topic."""
        return self.read(self._options, self._topic)

    @staticmethod
    def read(options: KafkaOptions, topic: str) -> Mapping[str, bytes]:
        """The same for somebody who writes nothing, and so shuts nobody out."""
        found: dict[str, bytes] = {}
        with Scan(options, topic) as scan:
            for batch in scan:
                for record in batch:
                    if record.value is not None:
                        found[(record.key or b"").decode(errors="replace")] = record.value
        return found

    def write(
        self,
        topic: str,
        copies: Iterable[tuple[bytes | None, bytes | None, Headers]],
        marks: Iterable[tuple[str, bytes]],
    ) -> None:
        """All of it or nothing. Raises `Failed`; then, and when interrupted, nothing was written."""
        producer = self._producer
        try:
            producer.begin_transaction()
            try:
                for key, value, headers in copies:
                    self._produce(topic, key, value, headers)
                for name, value in marks:
                    self._produce(self._topic, name.encode(), value, ())
                producer.commit_transaction(_TIMEOUT_SECS)
            except BaseException:
                producer.abort_transaction(_TIMEOUT_SECS)
                raise
        except KafkaException as error:
            reason: KafkaError = error.args[0]
            if reason.code() in _FENCED:
                raise Failed("another replay has been started meanwhile: this one ends here") from error
            raise Failed(f"a transaction failed, nothing of it was written: {reason.str()}") from error

    def _produce(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key, headers=list(headers))
            except BufferError:
                self._producer.poll(0.5)
            else:
                return
