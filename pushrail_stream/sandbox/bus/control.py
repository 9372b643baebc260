"""Control of the bus over HTTP, under ``/_bus/`` on its port, for other processes: JSON in and out, camelCase."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

import orjson
from pydantic import ConfigDict, ValidationError, validate_call
from pydantic.alias_generators import to_camel

from pushrail_stream.sandbox.bus.faults import FieldError, rules_from_json, rules_to_json
from pushrail_stream.sandbox.bus.wire import Reply, Request

if TYPE_CHECKING:
    from pushrail_stream.sandbox.bus.ledger import Arrival, Assumed, Call
    from pushrail_stream.sandbox.bus.server import FaultBus

_PAGE: Final = 1000
"""Records in one answer unless the request asks for another number."""
_CAMEL_CASE: Final = ConfigDict(alias_generator=to_camel)


class Control:
    """Answers ``/_bus/`` requests."""

    def __init__(self, bus: FaultBus) -> None:
        self._bus = bus
        ledger = bus.ledger
        self.reads: dict[str, Callable[[dict[str, str]], Any]] = {
            "counts": lambda _: {**bus.counts(), "byBus": dict(ledger.by_bus)},
            "arrivals": lambda query: _page("arrivals", ledger.arrivals, query),
            "calls": lambda query: _page("calls", ledger.calls, query),
            "assumed": lambda query: _page("assumed", ledger.assumed, query),
            "plan": lambda _: rules_to_json(bus.plan),
        }
        self._declarations: dict[str, Callable[..., None]] = {
            "buses": bus.add_bus,
            "keys": bus.add_key,
            "roles": bus.add_role,
            "rules": bus.add_rule,
            "clear": bus.clear,
        }

    def handle(self, request: Request) -> Reply:
        """Answer one request; 400 names the field that is wrong."""
        path = request.path.removeprefix("/_bus/")
        try:
            body = orjson.loads(request.body) if request.body else {}
            if request.method == b"GET" and path in self.reads:
                return _json(200, self.reads[path](dict(parse_qsl(request.query))))
            if request.method == b"PUT" and path == "plan":
                self._bus.set_plan(rules_from_json(body))
                return _json(200, rules_to_json(self._bus.plan))
            if request.method == b"POST" and path in self._declarations:
                _declare(self._declarations[path], body)
                return _json(200, {})
        except orjson.JSONDecodeError as error:
            return _json(400, {"error": f"body: not JSON: {error}"})
        except ValidationError as error:
            return _json(400, {"error": str(FieldError.of(error))})
        except ValueError as error:
            return _json(400, {"error": str(error)})
        status = 405 if path in self.reads or path in self._declarations else 404
        return _json(status, {"error": f"no {request.method.decode()} {request.path}"})


def _declare(declare: Callable[..., None], body: Any) -> None:
    """Call a method of the bus with a body's fields, checked against its parameters."""
    if not isinstance(body, dict):
        raise FieldError("body: must be an object")
    validate_call(config=_CAMEL_CASE)(declare)(**body)


def _json(status: int, document: Any) -> Reply:
    return Reply(status, orjson.dumps(document), "application/json")


def _page(name: str, records: Sequence[Arrival | Call | Assumed], query: dict[str, str]) -> dict[str, Any]:
    offset, limit = _natural(query, "offset", 0), _natural(query, "limit", _PAGE)
    shown = [{to_camel(key): value for key, value in one._asdict().items()} for one in records[offset : offset + limit]]
    return {name: shown, "offset": offset, "total": len(records)}


def _natural(query: dict[str, str], name: str, default: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()):
        raise FieldError(f"{name}: must be a whole number from 0")
    return int(text)
