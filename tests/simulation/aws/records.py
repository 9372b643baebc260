"""The truth about every call: what AWS did, what it answered, and whose fault a failure was."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Api = Literal["PutEvents", "DescribeEventBus", "AssumeRole", "GetCallerIdentity", "Decrypt", "GenerateDataKey"]
Blame = Literal["", "event", "customer", "ours", "aws"]
"""The party at fault for a failure: the event's producer, the customer, ourselves, or AWS and the network between.
Empty for a success."""


class Arrival(NamedTuple):
    """One entry that a bus took, whether or not its answer reached the sender."""

    account: str
    bus: str
    generation: int
    """1 for the bus that was made first, one more for each recreation under the same name."""
    event_id: str
    idempotency_key: str
    """The second of the entry's resources, where the product writes it."""
    source: str
    detail_type: str
    detail: str
    resources: tuple[str, ...]
    principal: str
    """ARN of the signer."""
    at: float
    """Virtual seconds."""
    call: int
    """Index in the list of calls."""
    place: int
    """Place of the entry in its call."""


class EntryTruth(NamedTuple):
    """The fate of one entry of a call."""

    bus: str
    idempotency_key: str
    taken: bool
    """Whether it arrived at its bus."""
    confirmed: bool
    """Whether the answer, as it was sent, says with an event id that the entry was taken."""
    code: str
    blame: Blame
    event_id: str = ""
    """The id by which AWS took the entry, whether or not it arrived at a bus; empty when it was refused."""
    detail: str = ""
    """As it was sent."""
    resources: tuple[str, ...] = ()
    is_repeat: bool = False
    """Whether a bus of eventbridgev2 had it already, and kept it once. `event_id` is that of the first."""


@dataclass(slots=True)
class Call:
    """One request to an API, as AWS saw it."""

    number: int
    """Index in the list of calls."""
    api: Api
    region: str
    at: float
    """Virtual seconds at which AWS handled it."""
    access_key: str = ""
    principal: str = ""
    role: str = ""
    """AssumeRole: the role asked for. Otherwise the role whose session signed the call."""
    bus: str = ""
    """DescribeEventBus: the ARN of the bus."""
    host: str = ""
    """The name of the sender's host; empty when it has none."""
    request_id: str = ""
    """The id in the head of the answer, as it was sent; empty where it has none."""
    is_v2: bool = False
    """Whether it is a call to eventbridgev2, which speaks CBOR."""
    fault: str = ""
    """The kind of the injected fault."""
    status: int = 0
    """HTTP status that was answered; 0 without an answer."""
    code: str = ""
    """Error code of the whole call."""
    blame: Blame = ""
    """The party at fault when the call as a whole failed."""
    entries: list[EntryTruth] = field(default_factory=list)
    """PutEvents: one for each entry of the request. Empty when the request could not be read."""
    issued_key: str = ""
    """AssumeRole: the access key of the session that was opened."""
    answered_at: float | None = None
    """Virtual seconds at which the whole answer reached the sender's host; None for an answer that was lost."""

    @property
    def uncertain_keys(self) -> list[str]:
        """The entries that were taken although the sender was not told so: repeating them is right."""
        told = self.answered_at is not None
        return [one.idempotency_key for one in self.entries if one.taken and not (told and one.confirmed)]
