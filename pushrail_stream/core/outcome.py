"""Outcomes: the result of one call to a bus, in words that every bus shares.

A bus translates the replies of its own protocol into these values. The cause of a failure decides what waits: the entry
(rejected), the moment (retryable), the destination (blocked) or the caller's speed (throttled).
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple


class Delivered(NamedTuple):
    """The bus took the entry and named it."""

    event_id: str
    is_repeat: bool = False
    """The bus has the entry from an earlier call, and keeps it once."""


class Retryable(NamedTuple):
    """The moment's fault: the same entry may succeed later."""

    code: str
    message: str
    is_our_fault: bool = False
    """Our own clock, settings or credentials are at fault: an operator has to act, and no dead letter results."""


class Throttled(NamedTuple):
    """The destination asks for less speed."""

    code: str
    message: str


class Rejected(NamedTuple):
    """The event's fault: it can never be delivered."""

    code: str
    message: str


class Blocked(NamedTuple):
    """The destination's fault: nothing can be delivered there until its owner repairs it."""

    code: str
    message: str


NotDelivered = Retryable | Throttled | Rejected | Blocked
Outcome = Delivered | NotDelivered


class Split(NamedTuple):
    """The call was refused for one of its entries: send each of them alone, once."""

    code: str
    message: str


class Refresh(NamedTuple):
    """The call was refused for stale credentials, and the bus has dropped them: make the call once more."""

    code: str
    message: str


class TooLarge(NamedTuple):
    """The entries have more bytes together than the bus takes in one call. The bus has lowered its limits."""

    code: str
    message: str


Verdict = tuple[Outcome, ...] | Split | TooLarge | Refresh
"""One outcome per entry, in order; or the reason why the outcomes come from further calls."""
CallResult = Literal["answered", "failed", "invalid", "not_made"]
"""``answered``: the reply has a result for each entry. ``failed``: the call failed as a whole. ``invalid``: the bus
refused the whole call as invalid; the event or the destination may be at fault. ``not_made``: there were no credentials
to call with. After any but the first, all entries have the same outcome."""


class Reply(NamedTuple):
    """The answer to one call."""

    verdict: Verdict
    result: CallResult = "answered"
    http_status: int | None = None
    """None when no reply came: the outcome is then unknown."""
    request_id: str | None = None

    def outcomes(self, entries: int) -> tuple[Outcome, ...]:
        """The outcome of each entry when no further call follows."""
        verdict = self.verdict
        if isinstance(verdict, Split | TooLarge | Refresh):
            return (Retryable(verdict.code, verdict.message),) * entries
        return verdict

    @property
    def rejection(self) -> Rejected | None:
        """The outcome of a call with one entry that the bus found invalid; None of any other call."""
        if self.result != "invalid":
            return None
        first = self.outcomes(1)[0]
        return first if isinstance(first, Rejected) else None


BusStatus = Literal["there", "gone", "denied", "busy", "unknown"]
"""Whether a bus exists. ``denied``: the destination's credentials do not allow the question. ``busy``: the quota for
questions is used up. ``unknown``: no usable answer came this time."""

CONNECT_TIMEOUT: Final = "ConnectTimeout"
READ_TIMEOUT: Final = "ReadTimeout"
HOLD_EXCEEDED: Final = "HoldExceeded"
"""Code of a call that was cut off because its deliveries must not be held any longer."""
BUS_NOT_FOUND: Final = "EventBusNotFound"
"""Code of deliveries that are given up because their bus does not exist."""
SIGN_INS_QUEUED: Final = "SignInsQueued"
"""Code of deliveries that wait for their turn to sign in: nothing has failed."""
_SILENCE: Final = frozenset({CONNECT_TIMEOUT, READ_TIMEOUT, HOLD_EXCEEDED})


def is_our_delay(outcome: Outcome) -> bool:
    """Whether we delay the delivery, by a fault of our own or by our limit of sign-ins.

    The delay does not count for the delivery's age.
    """
    return isinstance(outcome, Retryable) and (outcome.is_our_fault or outcome.code == SIGN_INS_QUEUED)


def is_silence(outcome: Outcome) -> bool:
    """Whether the bus gave no answer in time."""
    return isinstance(outcome, Retryable) and outcome.code in _SILENCE
