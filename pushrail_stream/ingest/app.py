"""Ingest: ``POST /v1/events``, in front of Kafka for producers that have no Kafka client.

A canonical event goes to Kafka byte for byte as it was posted; only a missing ``idempotencyKey`` is filled in, from the
``Idempotency-Key`` header. A CloudEvent becomes a canonical event first. The workers' decoder checks each event, so
every accepted one can be delivered. 202 means that all in-sync replicas have it. After any other answer the producer
has to post again, with the same idempotency key.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from pushrail_stream.core.event import TRACEPARENT_HEADER, VENDOR_HEADER, Event, Undecodable
from pushrail_stream.core.record import Headers
from pushrail_stream.core.signals import RequestAnswered
from pushrail_stream.core.text import safe_message
from pushrail_stream.ingest import request as posted
from pushrail_stream.ingest.api_keys import ApiKey, ApiKeys
from pushrail_stream.ingest.errors import HttpProblem, field_error
from pushrail_stream.ingest.forms import PostedForm
from pushrail_stream.ingest.limits import IngestLimits, RateLimiter, RequestBuffer
from pushrail_stream.ingest.openapi import describe, docs_page
from pushrail_stream.observe.pages import POLICY
from pushrail_stream.ports.kafka import EventProducer, ProducerRecord, RecordMetadata, RecordTooLarge
from pushrail_stream.ports.pipeline import Observer
from pushrail_stream.settings.eventbridge import MAX_SOURCE_BYTES, TIME_BYTES

_ENTRY_BYTES: Final = TIME_BYTES + MAX_SOURCE_BYTES
"""Largest part of an entry besides the event, in bytes. The destinations, and so their sources, are not known here."""
_MAX_PROBLEMS: Final = 100
"""Problems listed in one answer: a producer that makes one mistake 500 times needs no more."""


_Result = RecordMetadata | str | RecordTooLarge


@final
class IngestApp:
    """Takes events in. ``app`` is the ASGI application."""

    def __init__(self, producer: EventProducer, keys: ApiKeys, limits: IngestLimits, observe: Observer) -> None:
        self._producer = producer
        self._keys = keys
        self._limits = limits
        self._observe = observe
        self._room = RequestBuffer(limits)
        self._rates = RateLimiter(limits.max_events_per_second)
        self.app = self._application()

    @property
    def buffered_bytes(self) -> int:
        """Bytes taken by requests that are not answered yet."""
        return self._room.taken_bytes

    def refused(self, status: int, problem: str) -> None:
        """Report a request that was refused before it reached the application."""
        self._observe(_Seen(problem=problem).answered(status, 0.0))

    def _application(self) -> Starlette:
        document, policy = describe(), {"Content-Security-Policy": POLICY}
        routes = [
            Route("/v1/events", self._post_events, methods=["POST"]),
            Route("/openapi.json", Response(orjson.dumps(document), media_type="application/json"), methods=["GET"]),
            Route("/docs", HTMLResponse(docs_page(document), headers=policy), methods=["GET"]),
            Route("/", RedirectResponse("/docs"), methods=["GET"]),
        ]
        app = Starlette(routes=routes, exception_handlers={HTTPException: self._framework_problem, Exception: _bug})
        # A redirect would name an absolute address with the scheme http, although the load balancer speaks TLS. A
        # client that followed it would send its API key in clear.
        app.router.redirect_slashes = False
        return app

    async def _framework_problem(self, _request: Request, error: Exception) -> Response:
        """Answer the framework's own refusals, such as an unknown path, in the same form."""
        if not isinstance(error, HTTPException):
            raise error
        self.refused(error.status_code, str(error.detail))
        return HttpProblem(error.status_code, str(error.detail), headers=error.headers).response()

    async def _post_events(self, request: Request) -> Response:
        started = time.perf_counter()
        seen = _Seen()
        try:
            response = await self._answer(request, seen)
        except HttpProblem as refusal:
            seen.problem = refusal.detail
            response = refusal.response()
        except ClientDisconnect:
            seen.problem = "the client went away"
            response = HttpProblem(400, seen.problem).response()
        except Exception:
            self._observe(seen.answered(500, time.perf_counter() - started))
            raise
        self._observe(seen.answered(response.status_code, time.perf_counter() - started))
        return response

    async def _answer(self, request: Request, seen: _Seen) -> Response:
        key = self._authorize(request)
        seen.vendor, seen.key_id = key.vendor, key.id
        form = PostedForm(request, key.vendor)
        posted.check_announced(request, self._limits.max_body_bytes)
        with self._room.reserve(key.id) as take:
            body = await self._body(request, take)
            seen.size = len(body)
            # Before the events are counted, so that unreadable bodies count too.
            self._rates.spend(key.id, 1, time.monotonic())
            values, is_array = form.split(body)
            if len(values) > 1:
                self._rates.spend(key.id, len(values) - 1, time.monotonic())
            events = self._check(values, form, is_array=is_array, seen=seen)
            traceparent = posted.traceparent(request)
            seen.trace_id = traceparent.split(b"-")[1].decode()
            headers = ((VENDOR_HEADER, key.vendor.encode()), (TRACEPARENT_HEADER, traceparent))
            records = [
                ProducerRecord(
                    event.customer_external_id.encode(),
                    event.value,
                    headers if event.traceparent is None else _with_own_trace(headers, event.traceparent),
                )
                for event in events
            ]
            results = await self._producer.publish_all(records)
        return _answer(events, results, seen, traceparent, is_array=is_array)

    def _authorize(self, request: Request) -> ApiKey:
        scheme, _, presented = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            detail = "give an API key in the header: Authorization: Bearer KEY"
            raise HttpProblem(401, detail, headers={"WWW-Authenticate": 'Bearer realm="pushrail"'})
        key = self._keys.find(presented.strip())
        if key is None:
            challenge = 'Bearer realm="pushrail", error="invalid_token"'
            raise HttpProblem(401, "this API key is not known, or was revoked", headers={"WWW-Authenticate": challenge})
        vendor = request.headers.get(VENDOR_HEADER)
        if vendor is not None and vendor != key.vendor:
            raise HttpProblem(403, f"{VENDOR_HEADER}: the API key is not for this vendor")
        return key

    async def _body(self, request: Request, take: Callable[[int], None]) -> bytes:
        limit, parts, size = self._limits.max_body_bytes, list[bytes](), 0
        try:
            async with asyncio.timeout(self._limits.timeout_secs):
                async for part in request.stream():
                    size += len(part)
                    if size > limit:
                        raise posted.too_large(limit)
                    take(len(part))
                    parts.append(part)
        except TimeoutError:
            detail = f"the body did not come within {self._limits.timeout_secs:g} s"
            raise HttpProblem(408, detail, headers={"Connection": "close"}) from None
        return b"".join(parts)

    def _check(self, values: Sequence[bytes], form: PostedForm, *, is_array: bool, seen: _Seen) -> list[Event]:
        """Decode all events. Raises `HttpProblem` with every broken rule when one of them is bad."""
        events, found = list[Event](), list[dict[str, Any]]()
        for index, value in enumerate(values):
            event = form.read(value, index if is_array else None)
            if isinstance(event, Event):
                event = self._fitting(event)
            if isinstance(event, Event):
                events.append(event)
                continue
            seen.rejected += 1
            for problem in event:
                found.append(field_error(problem, index if is_array else None))
        if found:
            raise HttpProblem(422, _summary(found, seen.rejected, len(values)), errors=found[:_MAX_PROBLEMS])
        return events

    def _fitting(self, event: Event) -> Event | list[Undecodable]:
        size, limit = event.size + _ENTRY_BYTES, self._limits.max_entry_bytes
        if size <= limit:
            return event
        return [Undecodable("value", f"may make an EventBridge entry of {size} bytes; {limit} fit")]


@dataclass
class _Seen:
    """Notes about a request: the fields of the signal about its answer."""

    size: int = 0
    accepted: int = 0
    rejected: int = 0
    failed: int = 0
    vendor: str | None = None
    key_id: str | None = None
    trace_id: str | None = None
    problem: str = ""

    def answered(self, status: int, secs: float) -> RequestAnswered:
        return RequestAnswered(status, secs, **vars(self))


def _with_own_trace(headers: Headers, traceparent: str) -> Headers:
    """The request's headers. The trace of an event, which a CloudEvent may have, replaces the last one."""
    return (*headers[:-1], (TRACEPARENT_HEADER, traceparent.encode()))


def _summary(found: Sequence[Mapping[str, Any]], rejected: int, total: int) -> str:
    first = f"{found[0]['field']}: {found[0]['detail']}"
    return first if total == 1 else f"{rejected} of {total} events break a rule; the first: {first}"


def _answer(
    events: Sequence[Event], results: Sequence[_Result], seen: _Seen, traceparent: bytes, *, is_array: bool
) -> Response:
    headers = {TRACEPARENT_HEADER: traceparent.decode("latin-1")}
    shown = [_shown(index, event, result) for index, (event, result) in enumerate(zip(events, results, strict=True))]
    failed = {index: result for index, result in enumerate(results) if not isinstance(result, RecordMetadata)}
    seen.accepted = len(events) - len(failed)
    told: dict[str, Any] = {"accepted": seen.accepted, "results": shown}
    if not failed:
        return Response(orjson.dumps(told), 202, headers, "application/json")
    for index, result in failed.items():
        if isinstance(result, RecordTooLarge):
            seen.rejected, seen.failed = 1, len(failed) - 1
            error = field_error(Undecodable("value", _why_not(events[index], result)), index if is_array else None)
            raise HttpProblem(413, f"event {index}: {error['detail']}", headers=headers, errors=[error], **told)
    seen.failed = len(failed)
    index, result = next(iter(failed.items()))
    detail = f"Kafka did not acknowledge {len(failed)} of {len(events)} events: {_why_not(events[index], result)}"
    raise HttpProblem(503, detail, headers={"Retry-After": "5", **headers}, **told)


def _shown(index: int, event: Event, result: _Result) -> dict[str, Any]:
    known: dict[str, Any] = {"index": index, "idempotencyKey": event.idempotency_key}
    if isinstance(result, RecordMetadata):
        return {**known, "status": "accepted", "partition": result.partition, "offset": result.offset}
    return {**known, "status": "failed", "detail": _why_not(event, result)}


def _why_not(event: Event, result: str | RecordTooLarge) -> str:
    if isinstance(result, str):
        return safe_message(result)
    size, limit = len(event.value), result.limit
    return f"has {size} bytes and is, even compressed, larger than the Kafka topic's max.message.bytes, {limit}"


async def _bug(_request: Request, _error: Exception) -> Response:
    """Answer a bug of ours. The log has the traceback."""
    return HttpProblem(500, "an error of the service; post again with the same idempotency keys").response()
