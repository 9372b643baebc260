"""The copy writer: writes copies to Kafka until it has acknowledged them."""

from __future__ import annotations

import asyncio
from typing import Final, final

from pushrail_stream.core.copy import Copy
from pushrail_stream.core.offsets import PendingRecord
from pushrail_stream.core.pacing import Backoff
from pushrail_stream.core.signals import CopyFailed
from pushrail_stream.pipeline.policy import Policy, Ports
from pushrail_stream.ports.pipeline import PublishError

_BACKOFF: Final = Backoff(1.0, 10.0)
"""Pauses between two writes of a copy. Kafka's client retries for half a minute before it reports a failure."""


@final
class CopyWriter:
    """Writes dead letters to the DLQ, and retry copies to their tiers."""

    def __init__(self, ports: Ports, policy: Policy) -> None:
        self._publisher = ports.publisher
        self._jitter = ports.jitter
        self._observe = ports.observe
        self._dlq = policy.dlq

    async def write(self, copy: Copy, pending: PendingRecord) -> bool:
        """Return True once Kafka has acknowledged the copy, or False when it refused and the partition was revoked."""
        topic = copy.tier.topic if copy.tier else self._dlq
        record, headers, failures = copy.record, copy.headers(), 0
        while True:
            try:
                await self._publisher.publish(topic, record.key, record.value, headers)
            except PublishError as error:
                failures += 1
                delay_secs = _BACKOFF.pause_secs(failures, 0.5 + self._jitter() / 2)
                self._observe(CopyFailed(copy, str(error), delay_secs))
                if pending.is_revoked:
                    return False
                await asyncio.sleep(delay_secs)
            else:
                return True
