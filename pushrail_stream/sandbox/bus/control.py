"""The bus's control over HTTP, under ``/_bus/`` on the same port, for other processes; JSON in and out, camelCase."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl

import orjson
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel
from pydantic.dataclasses import dataclass as checked_dataclass

from pushrail_stream.sandbox.bus.faults import FieldError, rules_from_json, rules_to_json
from pushrail_stream.sandbox.bus.identity import DEFAULT_ACCOUNT
from pushrail_stream.sandbox.bus.wire import Reply, Request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pushrail_stream.sandbox.bus.ledger import Arrival, Assumed, Call
    from pushrail_stream.sandbox.bus.server import FaultBus

_CONFIG = ConfigDict(alias_generator=to_camel, validate_by_name=True, extra="forbid")
_PAGE = 1000
_T = TypeVar("_T")


@checked_dataclass(frozen=True, slots=True, config=_CONFIG)
class _BusBody:
    arn: str


@checked_dataclass(frozen=True, slots=True, config=_CONFIG)
class _KeyBody:
    access_key: str
    secret: str
    account: str = DEFAULT_ACCOUNT
    buses: tuple[str, ...] | None = None


@checked_dataclass(frozen=True, slots=True, config=_CONFIG)
class _RoleBody:
    role_arn: str
    external_id: str | None = None
    buses: tuple[str, ...] | None = None
    max_session_secs: int = 3600


@checked_dataclass(frozen=True, slots=True, config=_CONFIG)
class _PoliciesBody:
    role_arn: str
    trust_policy: dict[str, Any]
    permissions_policies: tuple[dict[str, Any], ...]


@checked_dataclass(frozen=True, slots=True, config=_CONFIG)
class _EventRuleBody:
    bus: str
    name: str
    pattern: dict[str, Any]
    queue: str


@dataclass(frozen=True, slots=True)
class _Route:
    """One path: its handler takes the query and the decoded body and gives the reply's document."""

    method: bytes
    path: str
    answer: Callable[[dict[str, str], Any], Any]


class Control:
    """Answers ``/_bus/`` requests."""

    def __init__(self, bus: FaultBus) -> None:
        self._bus = bus
        routes = (
            _Route(b"GET", "counts", lambda _q, _b: {**bus.counts(), "byBus": dict(bus.ledger.by_bus)}),
            _Route(b"GET", "arrivals", lambda query, _b: _page("arrivals", bus.ledger.arrivals, query)),
            _Route(b"GET", "calls", lambda query, _b: _page("calls", bus.ledger.calls, query)),
            _Route(b"GET", "assumed", lambda query, _b: _page("assumed", bus.ledger.assumed, query)),
            _Route(b"GET", "latencies", lambda query, _b: {"latenciesMs": bus.ledger.latencies_ms(query.get("bus"))}),
            _Route(b"GET", "plan", lambda _q, _b: rules_to_json(bus.plan)),
            _Route(b"PUT", "plan", lambda _q, body: self._put_plan(body)),
            _Route(b"POST", "buses", lambda _q, body: self._add_bus(body)),
            _Route(b"POST", "keys", lambda _q, body: self._add_key(body)),
            _Route(b"POST", "roles", lambda _q, body: self._add_role(body)),
            _Route(b"POST", "rules", lambda _q, body: self._add_rule(body)),
            _Route(b"POST", "clear", lambda _q, _b: bus.clear()),
        )
        self._routes = {(route.method, f"/_bus/{route.path}"): route for route in routes}
        self._paths = {path for _, path in self._routes}

    def handle(self, request: Request) -> Reply:
        """Answer one request; 400 names the field that is wrong."""
        route = self._routes.get((request.method, request.path))
        if route is None:
            status = 405 if request.path in self._paths else 404
            return _json(status, {"error": f"no {request.method.decode()} {request.path}"})
        try:
            body = orjson.loads(request.body) if request.body else None
            document = route.answer(dict(parse_qsl(request.query)), body)
        except orjson.JSONDecodeError as error:
            return _json(400, {"error": f"body: not JSON: {error}"})
        except FieldError as error:
            return _json(400, {"error": str(error)})
        return _json(200, {} if document is None else document)

    def _put_plan(self, body: Any) -> Any:
        self._bus.set_plan(rules_from_json(body))
        return rules_to_json(self._bus.plan)

    def _add_bus(self, body: Any) -> None:
        arn = _read(_BusBody, body).arn
        _declare("arn", lambda: self._bus.add_bus(arn))

    def _add_key(self, body: Any) -> None:
        key = _read(_KeyBody, body)
        self._bus.add_key(key.access_key, key.secret, account=key.account, buses=key.buses)

    def _add_role(self, body: Any) -> None:
        if isinstance(body, dict) and "trustPolicy" in body:
            given = _read(_PoliciesBody, body)
            trust, permissions = given.trust_policy, given.permissions_policies
            _declare(
                "roleArn",
                lambda: self._bus.add_role_with_policies(given.role_arn, trust=trust, permissions=permissions),
            )
            return
        role = _read(_RoleBody, body)
        _declare(
            "roleArn",
            lambda: self._bus.add_role(
                role.role_arn,
                external_id=role.external_id,
                buses=role.buses,
                max_session_secs=role.max_session_secs,
            ),
        )

    def _add_rule(self, body: Any) -> None:
        rule = _read(_EventRuleBody, body)
        _declare("rule", lambda: self._bus.add_rule(rule.bus, rule.name, rule.pattern, rule.queue))


def _json(status: int, document: Any) -> Reply:
    return Reply(status, orjson.dumps(document), "application/json")


def _read(kind: type[_T], body: Any) -> _T:
    try:
        return TypeAdapter(kind).validate_python(body, by_alias=True, by_name=False)
    except ValidationError as error:
        raise FieldError.of(error) from error


def _declare(field: str, act: Callable[[], None]) -> None:
    try:
        act()
    except ValueError as error:
        raise FieldError(f"{field}: {error}") from error


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
