"""A destination: one customer's bus, with the credentials to reach it and the limits to respect."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, Protocol, final

if TYPE_CHECKING:
    from pushrail_stream.core.event import Event

DetailFormat = Literal["canonical", "cloudevents"]
"""The form in which a destination gets events: as they were produced, or as CloudEvents."""
DEFAULT_MAX_IN_FLIGHT: Final = 64
"""The most calls in flight at once, unless document or settings set another number."""
DEFAULT_FLUSH_MS: Final = 100
"""Milliseconds that the first entry of a batch waits for others, unless document or settings set another number."""


@final
class Secret:
    """A text that only `reveal` shows."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the secret. Call it only to sign a request."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> str:
        raise TypeError("a secret is not serialised")


class Filter(Protocol):
    """Chooses events by their content. Compared by value, as its destination is."""

    def admits(self, event: Event) -> bool:
        """Whether the event passes. It is asked once for each new delivery."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on the load we put on a destination."""

    max_requests_per_second: float | None = None
    max_in_flight: int = DEFAULT_MAX_IN_FLIGHT
    flush_ms: int = DEFAULT_FLUSH_MS
    """Longest wait of a batch's first entry for others. With 0 it waits only while a call is in flight."""


@dataclass(frozen=True, slots=True)
class RetryBounds:
    """The end of the attempts to make a delivery; infinity is no bound."""

    max_age_secs: float = math.inf
    """Age at which a failed delivery is given up."""
    max_attempts: float = math.inf
    """Attempts after which it is. Those that failed for a fault of our own do not count."""


@dataclass(frozen=True, slots=True)
class CustomerBus:
    """The bus and the way to it. Knowledge about a bus holds as long as this stays the same."""

    type: str
    """The kind of the bus. The core and the pipeline only compare it; adapters and commands know its rules."""
    arn: str
    """Full name of the bus, for people and to tell two buses apart. Nothing here takes it apart."""
    region: str
    auth: object
    """The way to sign in there. The core and the pipeline only compare it; adapters and commands know its type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """One customer's bus, with the fields of its document. Compared by value: a changed document is another destination
    with the same id.
    """

    id: str
    vendor: str
    customer_external_id: str
    name: str
    bus: CustomerBus
    source: str
    """The sender that the destination's events name: the document's ``sourceNamespace``, else ``pushrail.<vendor>``."""
    event_types: tuple[str, ...] = ()
    """Exact event types or ``prefix.*``; empty wants everything."""
    enabled: bool = True
    paused: bool = False
    """Whether its events are skipped until an operator resumes it, and then sent."""
    limits: Limits = field(default_factory=Limits)
    detail_format: DetailFormat = "canonical"
    retry: RetryBounds = field(default_factory=RetryBounds)
    """The destination's own bounds. Those of the settings hold beside them."""
    filter: Filter | None = None
    """Chooses among the events of `event_types`; None takes them all."""

    @property
    def owner(self) -> tuple[str, str]:
        """Vendor and customer, whose events may go there. An id may be given to another customer."""
        return self.vendor, self.customer_external_id

    @property
    def closed_as(self) -> Literal["disabled", "paused"] | None:
        """Why its deliveries are skipped; None when they are made."""
        if self.enabled:
            return "paused" if self.paused else None
        return "disabled"

    @property
    def wants_all(self) -> bool:
        """Whether it takes every event of its customer."""
        return not self.event_types and self.filter is None

    def chooses_as(self, other: Destination) -> bool:
        """Whether both choose the same events."""
        return self.event_types == other.event_types and self.filter == other.filter

    def wants(self, event: Event) -> bool:
        """Whether the destination takes this event of its customer."""
        return self.wants_type(event.event_type) and (self.filter is None or self.filter.admits(event))

    def wants_type(self, event_type: str) -> bool:
        """Whether it takes events of this type, as far as the type alone tells."""
        return not self.event_types or any(
            event_type.startswith(pattern[:-1]) if pattern.endswith("*") else event_type == pattern
            for pattern in self.event_types
        )
