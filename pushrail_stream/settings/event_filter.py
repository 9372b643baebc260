"""A document's ``filter``: an event pattern that sees an event as the rules of the destination's bus would see it.

So a pattern that works in a rule works as a filter. It sees ``version`` (0), ``detail-type``, ``source``, ``account``
(of the bus), ``time`` (in seconds), ``region``, ``resources`` and ``detail``, which is a CloudEvent where the
destination gets CloudEvents. The ``id`` is not known before EventBridge has taken the event.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, final

import orjson

from pushrail_stream.core.destination import DetailFormat
from pushrail_stream.core.event import Event
from pushrail_stream.core.text import format_rfc3339
from pushrail_stream.patterns import PatternError, Test, compile_pattern
from pushrail_stream.patterns.compiler import MAX_LEVELS, OR
from pushrail_stream.settings.cloud_event import cloud_event
from pushrail_stream.settings.values import Arn

MAX_FILTER: Final = 4_096
"""Characters of a pattern, without blanks. EventBridge takes 2,048 by default, and more on request (Amazon EventBridge
quotas, "Event pattern size")."""
_FIELDS: Final = frozenset(
    {"version", "detail-type", "source", "account", "time", "region", "resources", "detail"}
)  # fmt: skip
_SECONDS: Final = len("2026-05-26T14:21:08")


def check_filter(pattern: Any) -> Test:
    """Compile a filter's pattern. Raises `PatternError`."""
    text = _text_of(pattern)
    matches = compile_pattern(pattern)
    if len(text.decode()) > MAX_FILTER:
        raise PatternError("", f"must have at most {MAX_FILTER} characters")
    for path, name in _top_level(pattern, ""):
        if name == "id":
            raise PatternError(path, "is not known before EventBridge has taken the event")
        if name not in _FIELDS:
            raise PatternError(path, f"must be one of {', '.join(sorted(_FIELDS))}: events have no other fields there")
    return matches


def _text_of(pattern: Any) -> bytes:
    """The pattern as JSON. It can only hold what an event can: Python reads and compares more than that."""
    try:
        text = orjson.dumps(pattern, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        text = b"null"
    if orjson.loads(text) != pattern:
        problem = f"must have finite numbers of at most 64 bits, Unicode characters, and at most {MAX_LEVELS} levels"
        raise PatternError("", problem)
    return text


def _top_level(pattern: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
    """The names of the event's own fields in a pattern, each with its path."""
    for name, value in pattern.items():
        if name != OR:
            yield f"{path}{name}", name
            continue
        for number, one in enumerate(value):
            yield from _top_level(one, f"{path}{OR}[{number}].")


@final
class EventFilter:
    """A compiled filter of one destination. Implements `core.destination.Filter`; compared by its pattern and bus."""

    __slots__ = ("_envelope", "_format", "_key", "_matches", "_names", "pattern")

    def __init__(self, pattern: dict[str, Any], *, bus_arn: str, source: str, detail_format: DetailFormat) -> None:
        """Raises `PatternError`."""
        self.pattern = pattern
        self._matches = check_filter(pattern)
        self._names = frozenset(name for _, name in _top_level(pattern, ""))
        arn = Arn.of(bus_arn)
        self._envelope = {"version": "0", "source": source, "account": arn.account, "region": arn.region}
        self._format = detail_format
        # As text, because Python takes true for 1.
        self._key = (_text_of(pattern), arn.account, arn.region, source, detail_format)

    def admits(self, event: Event) -> bool:
        """Whether the pattern matches the event."""
        seen: dict[str, Any] = {
            **self._envelope,
            "detail-type": event.event_type,
            "resources": [event.customer_external_id, event.idempotency_key],
        }
        if "detail" in self._names:
            seen["detail"] = orjson.loads(event.value if self._format == "canonical" else cloud_event(event))
        if "time" in self._names:
            seen["time"] = f"{format_rfc3339(event.occurred_at_ms)[:_SECONDS]}Z"
        return self._matches(seen)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EventFilter) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"EventFilter({self.pattern})"
