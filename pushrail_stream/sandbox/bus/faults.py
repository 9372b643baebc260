"""The plan of faults: which calls or entries a rule applies to (match), how often it fires (when), and its effect.

A plan is a list of rules, tried in order. The first rule that fires decides; later rules do not see that call, so
``Times(3)`` followed by ``Times(2)`` gives three effects of the first, then two of the second. Latency is an exception:
it adds to every other effect. Values are checked when they are made, in Python and from JSON (camelCase) alike.
"""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Any, Literal

import orjson
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.alias_generators import to_camel
from pydantic.dataclasses import dataclass

_CONFIG = ConfigDict(alias_generator=to_camel, validate_by_name=True, extra="forbid", strict=True)

Operation = Literal[
    "PutEvents",
    "DescribeEventBus",
    "PutPartnerEvents",
    "ListPartnerEventSourceAccounts",
    "AssumeRole",
    "GetCallerIdentity",
]


@dataclass(frozen=True, slots=True, kw_only=True, config=_CONFIG)
class Match:
    """The calls and entries that a rule applies to; an absent field matches everything.

    ``bus``, ``role`` and ``event_type`` are exact or shell globs (``order.*``). ``detail_contains`` matches a Detail
    with any of these strings, such as one event's idempotency key. A call matches when one of its entries does.
    ``role`` is the role to assume (AssumeRole) or the role of the caller's session (other operations).
    """

    operation: Operation | None = None
    bus: str | None = None
    access_key: str | None = None
    role: str | None = None
    event_type: str | None = None
    detail_contains: Annotated[tuple[str, ...], Field(strict=False)] = ()


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Always:
    """Every match fires."""

    kind: Literal["always"] = field(default="always", kw_only=True)


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Probability:
    """A match fires with this probability, drawn from the bus's seeded generator."""

    probability: Annotated[float, Field(ge=0, le=1)]
    kind: Literal["probability"] = field(default="probability", kw_only=True)


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Sequence:
    """The ``first``-th to ``last``-th match fire (from 1, both included)."""

    first: Annotated[int, Field(ge=1)]
    last: int
    kind: Literal["sequence"] = field(default="sequence", kw_only=True)

    @model_validator(mode="after")
    def _ordered(self) -> Sequence:
        if self.last < self.first:
            raise ValueError("last must not be below first")
        return self


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Times:
    """The first ``times`` matches fire, then never again."""

    times: Annotated[int, Field(ge=0)]
    kind: Literal["times"] = field(default="times", kw_only=True)


@dataclass(frozen=True, slots=True, config=_CONFIG)
class RateAbove:
    """Matches beyond this rate per second fire: a token bucket of ``burst`` tokens (None: one second's worth)."""

    rate_per_second: Annotated[float, Field(gt=0)]
    burst: Annotated[float, Field(ge=1)] | None = None
    kind: Literal["ratePerSecond"] = field(default="ratePerSecond", kw_only=True)


When = Always | Probability | Sequence | Times | RateAbove


@dataclass(frozen=True, slots=True, config=_CONFIG)
class EntryError:
    """PutEvents answers 200, with this error for the entries that match; the others are taken."""

    code: str
    message: str = ""
    kind: Literal["entryError"] = field(default="entryError", kw_only=True)


@dataclass(frozen=True, slots=True, config=_CONFIG)
class CallError:
    """The call is refused. ``body`` is the service's own (JSON; XML for STS), empty, or a proxy's HTML page."""

    status: Annotated[int, Field(ge=400, le=599)]
    code: str = ""
    message: str = ""
    body: Literal["aws", "empty", "html"] = "aws"
    kind: Literal["callError"] = field(default="callError", kw_only=True)


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Latency:
    """The call is carried out at once, its reply comes ``secs`` later."""

    secs: Annotated[float, Field(ge=0)]
    kind: Literal["latency"] = field(default="latency", kw_only=True)


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Hang:
    """Nothing is carried out and no reply ever comes; the connection stays open."""

    kind: Literal["hang"] = field(default="hang", kw_only=True)


@dataclass(frozen=True, slots=True, config=_CONFIG)
class ResetBefore:
    """The connection is reset (TCP RST) before anything is carried out."""

    kind: Literal["resetBefore"] = field(default="resetBefore", kw_only=True)


@dataclass(frozen=True, slots=True, config=_CONFIG)
class ResetAfter:
    """The call is carried out and recorded, then the connection is reset (TCP RST) without a reply."""

    kind: Literal["resetAfter"] = field(default="resetAfter", kw_only=True)


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Garbage:
    """HTTP 200 that confirms nothing: an empty body, HTML, ``{}``, or an Entries list without its last entry.

    Entries without a confirmation are not taken, so that a client that trusts the 200 visibly loses events.
    """

    body: Literal["empty", "html", "object", "short"] = "empty"
    kind: Literal["garbage200"] = field(default="garbage200", kw_only=True)


@dataclass(frozen=True, slots=True, config=_CONFIG)
class ExpireTokens:
    """The call is refused as if its session token had expired."""

    kind: Literal["expireTokens"] = field(default="expireTokens", kw_only=True)


CallEffect = CallError | Hang | ResetBefore | ResetAfter | Garbage | ExpireTokens
Effect = CallEffect | EntryError | Latency


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Rule:
    """One rule of the plan. ``name`` appears in the record of the calls it hit; the effect's kind when empty."""

    effect: Annotated[Effect, Field(discriminator="kind")]
    match: Match = field(default_factory=Match)
    when: Annotated[When, Field(discriminator="kind")] = field(default_factory=Always)
    name: str = ""

    @property
    def label(self) -> str:
        """The rule's name in the records."""
        return self.name or self.effect.kind


_RULES = TypeAdapter(list[Rule])


class FieldError(ValueError):
    """A value from outside is wrong; the message names the field."""

    @classmethod
    def of(cls, error: ValidationError, prefix: str = "") -> FieldError:
        """Word the first fault of a pydantic error as ``rules.0.when.probability: why``."""
        first = error.errors(include_url=False, include_input=False)[0]
        path = ".".join(str(part) for part in (prefix, *first["loc"]) if part != "")
        return cls(f"{path or 'body'}: {first['msg']}")


def rules_from_json(document: Any) -> list[Rule]:
    """Read ``{"rules": [...]}``; raises FieldError naming the field."""
    if not isinstance(document, dict) or set(document) != {"rules"}:
        raise FieldError("rules: the document must be an object with exactly this field")
    try:
        # As JSON: only there does strictness take objects for the dataclasses they spell.
        return _RULES.validate_json(orjson.dumps(document["rules"]), by_alias=True, by_name=False)
    except ValidationError as error:
        raise FieldError.of(error, "rules") from error


def rules_to_json(rules: list[Rule]) -> dict[str, Any]:
    """Write the document that ``rules_from_json`` reads."""
    return {"rules": _RULES.dump_python(rules, by_alias=True, mode="json", exclude_none=True)}
