"""The inputs of an engine: the outside world (`Ports`) and the settings' choices (`Policy`)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from pushrail_stream.core.batch import LaneLimits
from pushrail_stream.core.event import Decode, decode
from pushrail_stream.core.flood_guard import FloodLimits
from pushrail_stream.core.retry import RetryPolicy
from pushrail_stream.ports.pipeline import Bus, Clock, Directory, Jitter, Observer, Publisher


@dataclass(frozen=True, slots=True)
class BufferLimits:
    """Limits on unsettled records in memory, and on a partition's distance from its committable offset."""

    max_events: int
    max_bytes: int
    partition_max_offsets: int = 10_000
    partition_max_bytes: int = 16 * 2**20
    resume_share: float = 0.8
    """Consuming resumes at this share of a limit. The gap matters: a pause throws prefetched records away."""

    def part(self, share: float) -> BufferLimits:
        """A share of the worker's limits, for one of its consumers."""
        events, size = max(1, int(self.max_events * share)), max(1, int(self.max_bytes * share))
        return replace(self, max_events=events, max_bytes=size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The settings' choices for one engine."""

    vendor: str | None = None
    """The vendor of an event whose record names none."""
    decode: Decode = decode
    """Decodes records. Each decoder also reads canonical events."""
    names_customers: bool = True
    """Whether the value of each record names its customer, as a canonical event does."""
    dead_letter_unrouted: bool = False
    """Whether an event without a destination becomes a dead letter. Otherwise it is skipped."""
    dlq: str
    lanes: LaneLimits
    retry: RetryPolicy
    event_buffer: BufferLimits
    retry_buffer: BufferLimits
    flood: FloodLimits


class Ports(NamedTuple):
    """The outside world of one engine."""

    bus: Bus
    directory: Directory
    publisher: Publisher
    clock: Clock
    jitter: Jitter
    observe: Observer
    consumed: Observer | None = None
    """Gets a `Consumed` signal for every event. None saves that time."""
