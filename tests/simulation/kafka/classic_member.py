"""The requests and answers of members of classic groups, and a member as its coordinator keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple, final

from tests.simulation.kafka.assignor import Place
from tests.simulation.kafka.network import Later
from tests.simulation.kafka.partition_log import ErrorCode
from tests.simulation.scheduler import Timer

NO_GENERATION: Final = -1


class State(StrEnum):
    """The states, by the names that Kafka's tools show."""

    EMPTY = "Empty"
    PREPARING = "PreparingRebalance"
    COMPLETING = "CompletingRebalance"
    STABLE = "Stable"


class Identity(NamedTuple):
    """A member, as each of its requests names it."""

    member_id: str
    instance_id: str | None = None
    generation: int = NO_GENERATION
    """Its generation, or its epoch in the consumer protocol."""


class Joining(NamedTuple):
    """A JoinGroup request."""

    member_id: str
    """Empty at first."""
    instance_id: str | None
    client_id: str
    host: str
    session_secs: float
    rebalance_secs: float
    """The client's max.poll.interval."""
    topics: tuple[str, ...]
    owned: tuple[Place, ...] = ()


class Joined(NamedTuple):
    """The answer to a join."""

    member_id: str = ""
    generation: int = NO_GENERATION
    leader: str = ""
    members: Mapping[str, Joining] = {}
    """All members with what they want. Only the leader gets them."""
    error: ErrorCode | None = None


class Synced(NamedTuple):
    """The answer to a sync."""

    partitions: tuple[Place, ...] = ()
    error: ErrorCode | None = None


Assignment = Mapping[str, tuple[Place, ...]]


@final
class Member:
    """A member of the group."""

    def __init__(self, member_id: str, wish: Joining) -> None:
        self.member_id = member_id
        self.wish = wish
        self.partitions: tuple[Place, ...] = ()
        self.join: Later | None = None
        """Its join waits for the others'."""
        self.sync: Later | None = None
        """Its sync waits for the leader's."""
        self.session: Timer | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether the coordinator owes it an answer. Its session does not end meanwhile."""
        return self.join is not None or self.sync is not None

    def dismiss(self, error: ErrorCode) -> None:
        """Answer what waits with an error."""
        if self.join is not None:
            self.join.give(Joined(error=error))
        if self.sync is not None:
            self.sync.give(Synced(error=error))
        self.join = self.sync = None
        if self.session is not None:
            self.session.cancel()


class Record(NamedTuple):
    """The last complete round, as the coordinator has written it down."""

    generation: int
    told: Mapping[str, tuple[Joining, tuple[Place, ...]]]
    """By member id the request with which it joined that round, and its partitions."""

    def members(self) -> dict[str, Member]:
        """The members, as a coordinator knows them that has only read this."""
        found = {name: Member(name, wish) for name, (wish, _) in self.told.items()}
        for name, (_, partitions) in self.told.items():
            found[name].partitions = partitions
        return found
