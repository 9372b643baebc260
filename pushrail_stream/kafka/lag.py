"""Watermarks of partitions, asked for now and then: a consumer that pauses a partition does not learn that it grows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Final, final

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ListOffsetsResultInfo, OffsetSpec

from pushrail_stream.blocking import in_daemon_thread
from pushrail_stream.core.record import Partition
from pushrail_stream.kafka import client_properties
from pushrail_stream.settings.model import KafkaSettings

_EARLIEST: Final = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_LATEST: Final = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_PERIOD_SECS: Final = 10.0
_TIMEOUT_SECS: Final = 3.0


@final
class Watermarks:
    """First and end offsets of partitions, ten seconds old at most; those that Kafka does not tell are unknown."""

    def __init__(self, kafka: KafkaSettings) -> None:
        # With its default, the client would ask a partition's former leader for a quarter of an hour.
        fresh = client_properties.admin(kafka, {"metadata.max.age.ms": round(_PERIOD_SECS * 1000)})
        self._client = AdminClient(fresh)
        self._first: dict[Partition, int] = {}
        self._end: dict[Partition, int] = {}

    async def keep(self, partitions: Callable[[], Sequence[Partition]]) -> None:
        """Ask about these partitions again and again until cancelled."""
        while True:
            wanted = partitions()
            for known, spec in ((self._first, _EARLIEST), (self._end, _LATEST)):
                answers = await in_daemon_thread(self._ask, wanted, spec)
                known.clear()
                known.update(answers)
            await asyncio.sleep(_PERIOD_SECS if wanted else 1)

    def lag(self, partition: Partition, committed: int | None) -> int | None:
        """Records above the committed offset, or of the whole partition if none is committed; None while unknown."""
        end, start = self._end.get(partition), self._first.get(partition) if committed is None else committed
        return None if end is None or start is None else max(0, end - start)

    def _ask(self, partitions: Iterable[Partition], spec: OffsetSpec) -> dict[Partition, int]:
        wanted = {TopicPartition(*partition): spec for partition in partitions}
        if not wanted:
            return {}
        futures: Mapping[TopicPartition, Future[ListOffsetsResultInfo]] = self._client.list_offsets(
            wanted, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=_TIMEOUT_SECS
        )
        found = {}
        for partition, future in futures.items():
            try:
                found[Partition(partition.topic, partition.partition)] = int(future.result(2 * _TIMEOUT_SECS).offset)
            except (KafkaException, TimeoutError):
                continue  # the next round asks again
        return found
