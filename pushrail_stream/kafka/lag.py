"""Where partitions end, asked now and then: a consumer that pauses a partition does not learn that it grows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Final, Self, final

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ListOffsetsResultInfo, OffsetSpec

from pushrail_stream.blocking import in_daemon_thread
from pushrail_stream.core.record import Partition
from pushrail_stream.kafka.options import KafkaOptions

_EARLIEST: Final = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_LATEST: Final = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_PERIOD_SECS: Final = 10.0
_TIMEOUT_SECS: Final = 3.0


@final
class Watermarks:
    """First and end offsets of partitions, some ten seconds old at most: what Kafka does not answer is not known."""

    def __init__(self, client: AdminClient) -> None:
        self._client = client
        self._first: dict[Partition, int] = {}
        self._end: dict[Partition, int] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, options: KafkaOptions) -> AsyncIterator[Self]:
        """Ready to ask."""
        # Of itself it would for a quarter of an hour go on asking who led a partition before.
        fresh = options.admin({"metadata.max.age.ms": round(_PERIOD_SECS * 1000)})
        yield cls(AdminClient(fresh | {"error_cb": lambda _error: None}))

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
        """Records above the committed offset, or of the whole partition where none is committed; None: not known."""
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
                continue  # asked again soon
        return found
