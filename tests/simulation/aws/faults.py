"""The faults between the product and AWS: their kinds, how often each occurs, and the draw for one call.

A kind has a stage. ``resolve`` and ``connect``: no connection comes about. ``before``: AWS carries nothing out.
``after``: AWS carries the call out, and the answer suffers. ``entry``: PutEvents fails single entries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Final, Literal, NamedTuple

from tests.simulation.aws.records import Api, Blame

Stage = Literal["resolve", "connect", "before", "after", "entry"]


_EVENTS: Final[tuple[Api, ...]] = ("PutEvents", "DescribeEventBus")
_ALL: Final[tuple[Api, ...]] = (*_EVENTS, "AssumeRole", "GetCallerIdentity", "Decrypt", "GenerateDataKey")


class CallError(NamedTuple):
    """A refusal of a whole call that AWS may give at any time."""

    status: int
    blame: Blame
    apis: tuple[Api, ...] = _ALL
    message: str = ""


_DENIED: Final = "User: someone is not authorized to perform this action"
CALL_ERRORS: Final[Mapping[str, CallError]] = {
    "InternalFailure": CallError(500, "aws"),
    "InternalException": CallError(500, "aws", _EVENTS, "An internal error occurred."),
    "ServiceUnavailable": CallError(503, "aws", _ALL, "The service is unavailable. Please retry."),
    "RequestTimeout": CallError(400, "aws", _ALL, "Your socket connection was not read from in time."),
    "ThrottlingException": CallError(400, "aws", _ALL, "Rate exceeded"),
    "Throttling": CallError(400, "aws", _ALL, "Rate exceeded"),
    "TooManyRequestsException": CallError(429, "aws"),
    "RequestLimitExceeded": CallError(503, "aws"),
    "SlowDown": CallError(503, "aws"),
    "AccessDeniedException": CallError(400, "customer", _EVENTS, _DENIED),
    "NotAuthorized": CallError(401, "customer", ("PutEvents",), _DENIED),
    "ResourceNotFoundException": CallError(400, "customer", ("PutEvents",), "Event bus does not exist."),
    "OptInRequired": CallError(403, "customer", ("PutEvents",), "The account is not subscribed to the service."),
    "InvalidStateException": CallError(409, "aws", ("PutEvents",), "The event bus is being updated."),
    "ValidationException": CallError(400, "event", ("PutEvents",), "1 validation error detected"),
    "RequestExpired": CallError(400, "ours", _ALL, "Request has expired."),
    "UnknownOperationException": CallError(404, "ours", _EVENTS),
}
"""Errors of whole calls by code, each with HTTP status, blame, the APIs that may answer it, and message. Tokens and
signatures are not among them: they follow from the model of accounts, and so do the denials of AssumeRole."""

ENTRY_ERRORS: Final[Mapping[str, Blame]] = {
    "ThrottlingException": "aws",
    "InternalFailure": "aws",
    "InternalException": "aws",
    "ServiceUnavailable": "aws",
    "LimitExceededException": "aws",
    "BrandNewException": "aws",
    "MalformedDetail": "event",
    "InvalidArgument": "event",
    "RedactionFailure": "event",
    "NotAuthorizedForSourceException": "customer",
    "NotAuthorizedForDetailTypeException": "customer",
    "AccessDeniedException": "customer",
    "InvalidAccountIdException": "customer",
}
"""Errors of single entries by code. One code is unknown to everybody."""

STAGES: Final[Mapping[str, Stage]] = {
    "connection_refused": "connect",
    "dns_failure": "resolve",
    "connect_timeout": "connect",
    "hang": "before",
    "closed_before": "before",
    "reset_before": "before",
    "garbled_before": "before",
    "late": "after",
    "drip": "after",
    "interim": "after",
    "surplus": "after",
    "answer_lost": "after",
    "closed_after": "after",
    "reset_after": "after",
    "cut_in_head": "after",
    "cut_in_body": "after",
    "garbled_after": "after",
    **{f"call:{code}": "before" for code in CALL_ERRORS},
    **{f"entry:{code}": "entry" for code in ENTRY_ERRORS},
}
"""Every kind of fault."""


@dataclass(slots=True)
class Fault:
    """One kind of fault and where it occurs. A field that is None means: everywhere."""

    kind: str
    rate: float = 1.0
    """Probability for one connection, call or entry."""
    api: Api | None = None
    region: str | None = None
    account: str | None = None
    """Of the bus or the role that the call is about."""
    times: int | None = None
    """Occurrences left; None for no limit."""
    detail: str = ""
    """Garbled answers: a place of the corpus, ``STATUS/HEADERS/BODY``; empty to draw one."""

    def __post_init__(self) -> None:
        if self.kind not in STAGES:
            raise ValueError(f"no kind of fault: {self.kind}")

    @property
    def stage(self) -> Stage:
        """The stage of its kind."""
        return STAGES[self.kind]

    @property
    def code_of_call(self) -> str:
        """The error code of the whole call; empty for a kind that has none."""
        return self.kind.partition("call:")[2]

    def applies(self, api: Api | None, region: str, account: str) -> bool:
        """Whether it can occur here. A connection has no API yet."""
        code = self.code_of_call
        return (
            self.times != 0
            and (not code or api in CALL_ERRORS[code].apis)
            and self.api in {None, api}
            and self.region in {None, region}
            and self.account in {None, account}
        )


class Faults:
    """The faults that may occur at present. They are tried in order; the first that fires decides."""

    def __init__(self, dice: Random) -> None:
        self._dice = dice
        self._by_stage: dict[Stage, list[Fault]] = {}

    def set(self, faults: Iterable[Fault]) -> None:
        """Replace all faults."""
        self._by_stage = {}
        for one in faults:
            self.add(one)

    def set_rates(self, rates: Mapping[str, float]) -> None:
        """Replace all faults by kinds with a rate each, everywhere."""
        self.set(Fault(kind, rate) for kind, rate in rates.items())

    def add(self, fault: Fault) -> Fault:
        """Add a fault and return it, for `remove`."""
        self._by_stage.setdefault(fault.stage, []).append(fault)
        return fault

    def remove(self, fault: Fault) -> None:
        """End a fault. One that has ended already stays so."""
        held = self._by_stage.get(fault.stage, [])
        self._by_stage[fault.stage] = [one for one in held if one is not fault]

    def heal(self) -> None:
        """End all faults."""
        self._by_stage = {}

    def draw(self, stage: Stage, api: Api | None, region: str, account: str) -> Fault | None:
        """The fault that occurs, if any."""
        for one in self._by_stage.get(stage, ()):
            if one.applies(api, region, account) and (one.rate >= 1 or self._dice.random() < one.rate):
                if one.times is not None:
                    one.times -= 1
                return one
        return None
