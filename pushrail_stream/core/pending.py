"""A pending record: one Kafka record of which at least one delivery has not settled."""

from __future__ import annotations

from typing import Protocol, final


class RecordOwner(Protocol):
    """The bookkeeping that a pending record belongs to: a partition's offset tracker or a destination's cursor."""

    @property
    def is_revoked(self) -> bool:
        """Whether the partition is being revoked."""

    @property
    def is_lost(self) -> bool:
        """Whether the partition was lost, so that nothing of it will be committed any more."""

    @property
    def is_replaced(self) -> bool:
        """Whether Kafka may no longer have the open records, so that each must be settled and none abandoned."""

    @property
    def rereads(self) -> bool:
        """Whether the owner reads a record again whose delivery was taken out of memory."""

    @property
    def age_from_ms(self) -> int:
        """Epoch milliseconds from which the age of its deliveries counts at the earliest."""

    def closed(self, pending: PendingRecord) -> None:
        """Note that all deliveries of this record have settled."""


@final
class PendingRecord:
    """One record of an owner. It closes when all its deliveries have settled."""

    __slots__ = ("_is_shared", "_open", "at_ms", "is_dead_lettered", "is_open", "offset", "owner", "size")

    def __init__(self, owner: RecordOwner, offset: int, size: int, deliveries: int, at_ms: int) -> None:
        self.owner = owner
        self._open = deliveries
        self._is_shared = deliveries > 1
        self.is_open = deliveries > 0
        """Whether a delivery of the record is unsettled."""
        self.offset = offset
        self.size = size
        self.at_ms = at_ms
        """Epoch milliseconds of the record's Kafka timestamp."""
        self.is_dead_lettered = False
        """Whether the flood guard has counted it as a dead letter. It counts a record once."""

    @property
    def is_revoked(self) -> bool:
        """Whether the partition is being revoked, so that no delivery starts any more."""
        return self.owner.is_revoked

    @property
    def can_be_put_back(self) -> bool:
        """Whether its delivery may leave memory, because a cursor names its offset and reads it again."""
        return self.owner.rereads

    @property
    def is_for_next_owner(self) -> bool:
        """Whether the record stays unsettled for the partition's next owner.

        Dropping one delivery of a multi-destination record would redeliver all of them, so while a commit is still
        possible we write a retry copy instead.
        """
        owner = self.owner
        if owner.is_replaced:
            return False
        return owner.is_lost or (owner.is_revoked and not self._is_shared)

    @property
    def has_next_owner(self) -> bool:
        """Whether the partition was revoked, and its next owner can read the record again."""
        return self.owner.is_revoked and not self.owner.is_replaced

    def settle(self) -> None:
        """Settle one delivery of the record. To settle more deliveries than there are is a bug and raises."""
        if not self.is_open:
            raise RuntimeError(f"offset {self.offset} settled more often than it has deliveries")
        self._open -= 1
        if self._open == 0:
            self.is_open = False
            self.owner.closed(self)
