"""Ingest: ``POST /v1/events``, in front of Kafka for producers that have no Kafka client.

An event goes to Kafka to the byte as it was posted; only a missing ``idempotencyKey`` is filled in, from the
``Idempotency-Key`` header. It is checked by the decoder the workers use, so what is taken in can be delivered. 202 says
that all in-sync replicas have it; every other answer says that it is not known to be there, and posting again with the
same idempotency key is always right.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self, final

import msgspec
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from pushrail_stream.core.bucket import Bucket
from pushrail_stream.core.entry import MAX_REQUEST_BYTES
from pushrail_stream.core.event import (
    MAX_ID,
    TRACEPARENT_HEADER,
    VENDOR_HEADER,
    Event,
    Undecodable,
    decode,
    problems,
    utf8_length,
    x_ray_header,
)
from pushrail_stream.core.signals import RequestAnswered
from pushrail_stream.core.text import safe_message
from pushrail_stream.http.api_keys import ApiKey, ApiKeys
from pushrail_stream.http.openapi import DESCRIPTION, MAX_EVENTS, docs_page
from pushrail_stream.ports import Failed, Gate, Observer, Outgoing, Position

_PROBLEM: Final = "application/problem+json"
_JSON: Final = re.compile(r"application/json\s*(;\s*charset=\"?utf-8\"?\s*)?", re.IGNORECASE)
_IDEMPOTENCY_KEY: Final = re.compile(rf"[ -~]{{1,{MAX_ID}}}")
_REQUEST_COST: Final = 16 * 2**10
"""What a request takes besides its body: also small ones have a bound together."""
_SOURCE_BYTES: Final = 14 + len("pushrail.")
"""What an entry counts besides the event and the vendor: its Time and the usual Source (core/entry)."""
_MAX_PROBLEMS: Final = 100
"""Listed in one answer: who posts 500 times the same mistake needs no more."""
_KEEP_ALIVE_SECS: Final = 60
_LOOK_SECS: Final = 2.0
_BACKLOG: Final = 2_048
_JSON_SPACE: Final = b" \t\n\r"


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestLimits:
    """What is taken, and how long it may take."""

    max_body_bytes: int
    max_buffered_bytes: int
    max_events_per_second: int
    """Of one key."""
    max_entry_bytes: int = MAX_REQUEST_BYTES
    """What fits in one PutEvents call of the workers."""
    timeout_secs: float


class _Refusal(Exception):  # noqa: N818 - it is an answer
    """A request is not taken."""

    def __init__(self, status: int, detail: str, *, headers: Mapping[str, str] | None = None, **members: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members


class _Item(NamedTuple):
    event: Event
    value: bytes


_TYPES: Final = {
    400: ("bad-request", "The request cannot be understood"),
    401: ("unauthorized", "An API key is needed"),
    403: ("wrong-vendor", "The key is for another vendor"),
    404: ("not-found", "There is nothing here"),
    405: ("method-not-allowed", "Not by this method"),
    408: ("too-slow", "The body did not come in time"),
    413: ("too-large", "The body is too large"),
    415: ("media-type", "The body is not application/json"),
    422: ("invalid-events", "An event breaks a rule; none was taken"),
    429: ("too-many-events", "The key's rate is used up"),
    500: ("error", "The service failed"),
    503: ("unavailable", "Not now"),
}


@final
class Ingest:
    """Takes events in. ``app`` is the ASGI application."""

    def __init__(self, gate: Gate, keys: ApiKeys, limits: IngestLimits, observe: Observer) -> None:
        self._gate = gate
        self._keys = keys
        self._limits = limits
        self._observe = observe
        self._buckets: dict[str, Bucket] = {}
        self.buffered_bytes = 0
        """Of requests that are not answered yet."""
        self.app = self._application()

    def _application(self) -> Starlette:
        description = orjson.dumps(DESCRIPTION)
        page = docs_page()

        async def openapi(_request: Request) -> Response:
            return Response(description, media_type="application/json")

        async def docs(_request: Request) -> Response:
            return HTMLResponse(
                page, headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
            )

        async def root(_request: Request) -> Response:
            return RedirectResponse("/docs")

        routes = [
            Route("/v1/events", self._post_events, methods=["POST"]),
            Route("/openapi.json", openapi),
            Route("/docs", docs),
            Route("/", root),
        ]
        return Starlette(routes=routes, exception_handlers={HTTPException: _framework_problem, Exception: _bug})

    async def _post_events(self, request: Request) -> Response:
        started = time.perf_counter()
        seen = _Seen()
        try:
            response = await self._answer(request, seen)
        except _Refusal as refusal:
            seen.problem = refusal.detail
            response = _problem(refusal)
        except ClientDisconnect:
            seen.problem = "the client went away"
            response = _problem(_Refusal(400, seen.problem))
        except Exception:
            self._observe(seen.answered(500, time.perf_counter() - started))
            raise
        self._observe(seen.answered(response.status_code, time.perf_counter() - started))
        return response

    async def _answer(self, request: Request, seen: _Seen) -> Response:
        key = seen.key = self._authorize(request)
        _check_media_type(request)
        announced = _announced(request, self._limits.max_body_bytes)
        with self._room(announced):
            body = await self._body(request)
            seen.size = len(body)
            values, is_array = _split(body)
            self._spend(key, len(values))
            items = self._check(values, key.vendor, _idempotency_key(request), is_array=is_array, seen=seen)
            traceparent = _traceparent(request)
            seen.trace_id = traceparent.split(b"-")[1].decode()
            headers = ((VENDOR_HEADER, key.vendor.encode()), (TRACEPARENT_HEADER, traceparent))
            records = [Outgoing(item.event.customer_external_id.encode(), item.value, headers) for item in items]
            results = await self._gate.publish_all(records)
        return _answer(items, results, seen, traceparent)

    def _authorize(self, request: Request) -> ApiKey:
        scheme, _, presented = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            detail = "give an API key in the header: Authorization: Bearer KEY"
            raise _Refusal(401, detail, headers={"WWW-Authenticate": 'Bearer realm="pushrail"'})
        key = self._keys.vendor_of(presented.strip())
        if key is None:
            challenge = 'Bearer realm="pushrail", error="invalid_token"'
            raise _Refusal(401, "this API key is not known, or was revoked", headers={"WWW-Authenticate": challenge})
        vendor = request.headers.get(VENDOR_HEADER)
        if vendor is not None and vendor != key.vendor:
            raise _Refusal(403, f"{VENDOR_HEADER}: the API key is not for this vendor")
        return key

    @contextmanager
    def _room(self, size: int) -> Iterator[None]:
        """Room for a request until it is answered."""
        cost = size + _REQUEST_COST
        if self.buffered_bytes + cost > max(self._limits.max_buffered_bytes, cost):
            raise _Refusal(503, "more is waiting for Kafka than may wait", headers={"Retry-After": "1"})
        self.buffered_bytes += cost
        try:
            yield
        finally:
            self.buffered_bytes -= cost

    async def _body(self, request: Request) -> bytes:
        limit, parts, size = self._limits.max_body_bytes, list[bytes](), 0
        try:
            async with asyncio.timeout(self._limits.timeout_secs):
                async for part in request.stream():
                    size += len(part)
                    if size > limit:
                        raise _too_large(limit)
                    parts.append(part)
        except TimeoutError:
            detail = f"the body did not come within {self._limits.timeout_secs:g} s"
            raise _Refusal(408, detail, headers={"Connection": "close"}) from None
        return b"".join(parts)

    def _spend(self, key: ApiKey, events: int) -> None:
        bucket = self._buckets.get(key.id)
        if bucket is None:
            rate = self._limits.max_events_per_second
            bucket = self._buckets[key.id] = Bucket(rate, max(rate, MAX_EVENTS))
        wait_secs = bucket.take(max(1, events), time.monotonic())
        if wait_secs:
            detail = f"this API key may post {self._limits.max_events_per_second} events a second"
            raise _Refusal(429, detail, headers={"Retry-After": str(int(wait_secs) + 1)})

    def _check(
        self, values: Sequence[bytes], vendor: str, idempotency_key: str | None, *, is_array: bool, seen: _Seen
    ) -> list[_Item]:
        """The events, all of them good; raises `_Refusal` with every rule that is broken."""
        items, found = list[_Item](), list[dict[str, Any]]()
        for index, posted in enumerate(values):
            value = posted
            if idempotency_key is not None:
                value = _filled(posted, f"{idempotency_key}-{index}" if is_array else idempotency_key)
            event = decode(value, (), vendor)
            if isinstance(event, Event):
                event = self._fitting(event)
            if isinstance(event, Event):
                items.append(_Item(event, value))
                continue
            seen.rejected += 1
            for problem in problems(value) or [event]:
                found.append(_field_error(problem, index if is_array else None))
        if found:
            raise _Refusal(422, _summary(found, seen.rejected, len(values)), errors=found[:_MAX_PROBLEMS])
        return items

    def _fitting(self, event: Event) -> Event | Undecodable:
        size, limit = event.size + _SOURCE_BYTES + utf8_length(event.vendor), self._limits.max_entry_bytes
        if size <= limit:
            return event
        return Undecodable("value", f"makes an EventBridge entry of {size} bytes; {limit} fit")


class _Seen:
    """What is known of a request so far, for whoever is told of its answer."""

    def __init__(self) -> None:
        self.size = self.accepted = self.rejected = self.failed = 0
        self.key: ApiKey | None = None
        self.trace_id: str | None = None
        self.problem = ""

    def answered(self, status: int, secs: float) -> RequestAnswered:
        vendor, key_id = (None, None) if self.key is None else (self.key.vendor, self.key.id)
        return RequestAnswered(
            status, secs, self.size, self.accepted, self.rejected, self.failed, vendor, key_id, self.trace_id,
            self.problem,
        )  # fmt: skip


def _check_media_type(request: Request) -> None:
    content_type = request.headers.get("content-type", "")
    if not _JSON.fullmatch(content_type.strip()):
        raise _Refusal(415, "Content-Type: must be application/json, in UTF-8", headers={"Accept": "application/json"})
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise _Refusal(
            415, "Content-Encoding: the body must not be compressed", headers={"Accept-Encoding": "identity"}
        )


def _announced(request: Request, limit: int) -> int:
    """Bytes that the body will have; of one that does not say as many as it may."""
    announced = request.headers.get("content-length", "")
    if not announced.isascii() or not announced.isdigit():
        return limit
    if int(announced[:20]) > limit:
        raise _too_large(limit)
    return int(announced[:20])


def _too_large(limit: int) -> _Refusal:
    # What follows of such a body is not read: the connection has no use any more.
    return _Refusal(413, f"a body may have {limit} bytes", headers={"Connection": "close"})


def _split(body: bytes) -> tuple[list[bytes], bool]:
    """The events of a body, each to the byte, and whether they came in an array."""
    if not body.strip(_JSON_SPACE).startswith(b"["):
        return [body], False
    try:
        values = [bytes(raw) for raw in msgspec.json.decode(body, type=list[msgspec.Raw])]
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        problem = Undecodable("value", f"is not a JSON array: {error}")
        raise _Refusal(422, str(problem), errors=[_field_error(problem, None)]) from None
    if not 1 <= len(values) <= MAX_EVENTS:
        problem = Undecodable("value", f"has {len(values)} events, not 1 to {MAX_EVENTS}")
        raise _Refusal(422, str(problem), errors=[_field_error(problem, None)])
    return values, True


def _idempotency_key(request: Request) -> str | None:
    """The header, without the quotes that its draft standard puts around it."""
    raw = request.headers.get("idempotency-key")
    if raw is None:
        return None
    key = raw[1:-1] if len(raw) > 1 and raw[0] == raw[-1] == '"' else raw
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        problem = Undecodable("Idempotency-Key", f"is not 1 to {MAX_ID} printable ASCII characters")
        raise _Refusal(422, str(problem), errors=[_field_error(problem, None)])
    return key


def _filled(value: bytes, idempotency_key: str) -> bytes:
    """The event with its missing ``idempotencyKey`` as last member; every other byte as it was posted."""
    try:
        data = orjson.loads(value)
    except orjson.JSONDecodeError:
        return value
    if type(data) is not dict or "idempotencyKey" in data:
        return value
    head = value.rstrip(_JSON_SPACE).removesuffix(b"}").rstrip(_JSON_SPACE)
    return head + (b"," if data else b"") + b'"idempotencyKey":' + orjson.dumps(idempotency_key) + b"}"


def _traceparent(request: Request) -> bytes:
    """The request's own, when it is valid; else a new one, not sampled, so that the event can be followed."""
    given = request.headers.get(TRACEPARENT_HEADER, "").encode("latin-1")
    if x_ray_header(given) is not None:
        return given
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00".encode()


def _field_error(problem: Undecodable, index: int | None) -> dict[str, Any]:
    path = [] if index is None else [str(index)]
    if problem.field != "value":
        path.append(problem.field)
    error: dict[str, Any] = {"field": problem.field, "detail": safe_message(problem.problem)}
    if problem.field != "Idempotency-Key":
        error["pointer"] = "".join(["#", *(f"/{part}" for part in path)])
    return error if index is None else {"index": index, **error}


def _summary(found: Sequence[Mapping[str, Any]], rejected: int, total: int) -> str:
    first = f"{found[0]['field']}: {found[0]['detail']}"
    return first if total == 1 else f"{rejected} of {total} events break a rule; the first: {first}"


def _answer(items: Sequence[_Item], results: Sequence[Position | str], seen: _Seen, traceparent: bytes) -> Response:
    shown = [_result(index, item, result) for index, (item, result) in enumerate(zip(items, results, strict=True))]
    seen.failed = sum(isinstance(result, str) for result in results)
    seen.accepted = len(results) - seen.failed
    headers = {TRACEPARENT_HEADER: traceparent.decode("latin-1")}
    if not seen.failed:
        body = orjson.dumps({"accepted": seen.accepted, "results": shown})
        return Response(body, 202, headers, "application/json")
    why = safe_message(next(result for result in results if isinstance(result, str)))
    raise _Refusal(
        503,
        f"Kafka did not acknowledge {seen.failed} of {len(results)} events: {why}",
        headers={"Retry-After": "5", **headers},
        accepted=seen.accepted,
        results=shown,
    )


def _result(index: int, item: _Item, result: Position | str) -> dict[str, Any]:
    known: dict[str, Any] = {"index": index, "idempotencyKey": item.event.idempotency_key}
    if isinstance(result, str):
        return {**known, "status": "failed", "detail": safe_message(result)}
    return {**known, "status": "accepted", "partition": result.partition, "offset": result.offset}


def _problem(refusal: _Refusal) -> Response:
    """RFC 9457 problem details."""
    name, title = _TYPES.get(refusal.status, ("other", "The request was not taken"))
    body = {
        "type": f"urn:pushrail:problem:{name}",
        "title": title,
        "status": refusal.status,
        "detail": refusal.detail,
        **refusal.members,
    }
    return Response(orjson.dumps(body), refusal.status, refusal.headers, _PROBLEM)


async def _framework_problem(_request: Request, error: Exception) -> Response:
    """What the framework itself refuses, such as a path that does not exist, in the same form."""
    if not isinstance(error, HTTPException):
        raise error
    return _problem(_Refusal(error.status_code, str(error.detail), headers=error.headers))


async def _bug(_request: Request, _error: Exception) -> Response:
    """A bug of ours: the log has it, the producer learns that it was not their fault."""
    return _problem(_Refusal(500, "an error of the service; post again with the same idempotency keys"))


@final
class IngestReadiness:
    """Whether events can be taken: Kafka is asked every two seconds."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._problem = "Kafka has not been asked yet"
        self._stopping = False

    async def look(self) -> None:
        """Ask Kafka once."""
        self._problem = await self._gate.check(_LOOK_SECS)

    async def keep(self) -> None:
        """Ask again and again until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECS)
            await self.look()

    def stop(self) -> None:
        """What has come in is answered, and no more taken."""
        self._stopping = True

    def reasons(self) -> Sequence[str]:
        """Why it is not ready; empty when it is."""
        return [*([self._problem] if self._problem else []), *(["stopping"] if self._stopping else [])]


class _Uvicorn(uvicorn.Server):
    """Without signal handlers of its own: whoever starts the process stops it."""

    def capture_signals(self) -> Any:
        return nullcontext()


@final
class IngestServer:
    """Serves the application. What is under way when it is stopped is answered."""

    def __init__(self, app: Starlette, door: socket.socket, drain_secs: float) -> None:
        self._door = door
        config = uvicorn.Config(
            app,
            loop="none",
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # who asks is told by the key, not by an address
            timeout_keep_alive=_KEEP_ALIVE_SECS,
            timeout_graceful_shutdown=round(drain_secs),
        )
        self._server = _Uvicorn(config)
        self.port: int = door.getsockname()[1]

    @classmethod
    @contextmanager
    def open(cls, app: Starlette, host: str, port: int, *, drain_secs: float) -> Iterator[Self]:
        """A server that listens and does not answer yet. Raises `Failed` when the address cannot be had."""
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            door = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        except OSError as error:
            raise Failed(f"ingest.host, ingest.port: {host}:{port} cannot be had: {error.strerror or error}") from error
        with door:
            yield cls(app, door, drain_secs)

    def stop(self) -> None:
        """Close the door, answer what has come in, and end."""
        self._server.should_exit = True

    async def run(self) -> None:
        """Answer requests until `stop`."""
        await self._server.serve(sockets=[self._door])
