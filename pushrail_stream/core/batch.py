"""A batch: 1 to 10 deliveries of one destination that fit one PutEvents call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pushrail_stream.core.delivery import Delivery
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.entry import MAX_ENTRIES, MAX_REQUEST_BYTES, Entry, render

Flush = Literal["entries", "bytes", "time", "retry", "alone"]
"""Why a batch left: it was full (by entries or bytes), its first entry had waited long enough, a retry in it was due,
or its entry has to go alone because a batch was refused as a whole."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one attempt carries. One that is empty, mixed or over AWS's limits cannot be made."""

    destination: Destination
    deliveries: tuple[Delivery, ...]
    flush: Flush = "time"

    def __post_init__(self) -> None:
        if not 1 <= len(self.deliveries) <= MAX_ENTRIES:
            raise ValueError(f"a batch has 1 to {MAX_ENTRIES} deliveries, not {len(self.deliveries)}")
        size = 0
        for delivery in self.deliveries:
            if delivery.destination_id != self.destination.id:
                raise ValueError(f"{delivery} is not for {self.destination.id}")
            size += delivery.size
        if size > MAX_REQUEST_BYTES:
            raise ValueError(f"a batch has at most {MAX_REQUEST_BYTES} bytes, not {size}")

    def entries(self) -> list[Entry]:
        """The entries to send, in the order of the deliveries."""
        return [render(delivery.event, self.destination) for delivery in self.deliveries]

    def is_revoked(self) -> bool:
        """Whether one of its deliveries belongs to a partition that is being given back."""
        return any(delivery.pending.is_revoked for delivery in self.deliveries)
