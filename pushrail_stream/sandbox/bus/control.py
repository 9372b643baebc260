"""Control of the bus over HTTP, under ``/_bus/`` on its port, for other processes: JSON in and out, camelCase."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

import orjson
from pydantic import ConfigDict, NonNegativeInt, ValidationError, validate_call
from pydantic.alias_generators import to_camel

from pushrail_stream.sandbox.bus.faults import FieldError, rules_from_json, rules_to_json
from pushrail_stream.sandbox.bus.wire import Reply, Request

if TYPE_CHECKING:
    from pushrail_stream.sandbox.bus.ledger import Arrival, Assumed, Call
    from pushrail_stream.sandbox.bus.server import FaultBus

_PAGE: Final = 1000
"""Records in one answer unless the request asks for another number."""
_CAMEL_CASE: Final = ConfigDict(alias_generator=to_camel)
Action = Callable[[Any], Any]
"""Takes a query's fields or a body, and returns the answer. Raises ValueError that names a wrong field."""


class Control:
    """Answers ``/_bus/`` requests."""

    def __init__(self, bus: FaultBus) -> None:
        self._bus = bus
        self.actions: dict[tuple[bytes, str], Action] = {
            (b"GET", "counts"): lambda _: {**bus.counts(), "byBus": dict(bus.ledger.by_bus)},
            (b"GET", "arrivals"): _paged("arrivals", bus.arrivals),
            (b"GET", "calls"): _paged("calls", bus.calls),
            (b"GET", "assumed"): _paged("assumed", bus.assumed),
            (b"GET", "inbox"): _checked(self._inbox),
            (b"GET", "plan"): lambda _: rules_to_json(bus.plan),
            (b"PUT", "plan"): self._put_plan,
            (b"POST", "buses"): _checked(bus.add_bus),
            (b"POST", "keys"): _checked(bus.add_key),
            (b"POST", "roles"): _checked(bus.add_role),
            (b"POST", "rules"): _checked(bus.add_rule),
            (b"POST", "clear"): _checked(bus.clear),
        }
        """By method and path."""

    def handle(self, request: Request) -> Reply:
        """Answer one request; 400 names the field that is wrong."""
        method, path = request.method, request.path.removeprefix("/_bus/")
        action = self.actions.get((method, path))
        if action is None:
            status = 405 if any(path == known for _, known in self.actions) else 404
            return _json(status, {"error": f"no {method.decode()} {request.path}"})
        try:
            return _json(200, action(_fields(request)))
        except orjson.JSONDecodeError as error:
            return _json(400, {"error": f"body: not JSON: {error}"})
        except ValidationError as error:
            return _json(400, {"error": str(FieldError.of(error))})
        except ValueError as error:
            return _json(400, {"error": str(error)})

    def _inbox(
        self, *, limit: NonNegativeInt = _PAGE, rule: str | None = None, key: str | None = None
    ) -> dict[str, Any]:
        found = self._bus.event_rules.newest(limit, rule=rule, key=key)
        return {
            "events": [
                {"atMs": one.at_ms, "bus": one.bus, "rules": one.rules, "event": orjson.Fragment(one.event)}
                for one in found
            ]
        }

    def _put_plan(self, document: Any) -> dict[str, Any]:
        self._bus.set_plan(rules_from_json(document))
        return rules_to_json(self._bus.plan)


def _fields(request: Request) -> Any:
    if request.method == b"GET":
        return dict(parse_qsl(request.query))
    return orjson.loads(request.body or b"{}")


def _checked(method: Callable[..., object]) -> Action:
    """Call a method with a request's fields, checked against its parameters; None is an empty answer."""

    def call(fields: Any) -> Any:
        if not isinstance(fields, dict):
            raise FieldError("body: must be an object")
        return validate_call(config=_CAMEL_CASE)(method)(**fields) or {}

    return call


def _paged(name: str, records: Sequence[Arrival | Call | Assumed]) -> Action:
    def page(*, offset: NonNegativeInt = 0, limit: NonNegativeInt = _PAGE) -> dict[str, Any]:
        shown = [
            {to_camel(key): value for key, value in one._asdict().items()} for one in records[offset : offset + limit]
        ]
        return {name: shown, "offset": offset, "total": len(records)}

    return _checked(page)


def _json(status: int, document: Any) -> Reply:
    return Reply(status, orjson.dumps(document), "application/json")
