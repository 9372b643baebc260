"""EventBridge's side: PutEvents and DescribeEventBus, answered as AWS answers them or as the plan of faults says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from pushrail_stream.sandbox.bus.entries import (
    MAX_DETAIL_TYPE,
    EntryRefusal,
    Refusal,
    check_entry,
    invalid,
    is_suspicious,
    read_entries,
)
from pushrail_stream.sandbox.bus.faults import Garbage, ResetAfter
from pushrail_stream.sandbox.bus.identity import BUS_PATTERN, bus_arn, is_bus_name
from pushrail_stream.sandbox.bus.injector import NO_STRIKE, EntryView, Injector, Strike, Subject
from pushrail_stream.sandbox.bus.ledger import Arrival, Call, Ledger
from pushrail_stream.sandbox.bus.policies import DESCRIBE_BUS, PUT_EVENTS
from pushrail_stream.sandbox.bus.replies import Ids, json_error, struck
from pushrail_stream.sandbox.bus.signature import AuthFault, Caller, Unauthenticated, Verifier
from pushrail_stream.sandbox.bus.wire import JSON_1_1, Reply, Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from pushrail_stream.sandbox.bus.identity import Directory
    from pushrail_stream.sandbox.bus.queues import Queues

_OK = 200
_EXPIRED = (400, "ExpiredTokenException")
_AUTH_ERRORS: dict[AuthFault, tuple[int, str]] = {
    "missing": (400, "MissingAuthenticationToken"),
    "incomplete": (403, "IncompleteSignature"),
    "unknown": (400, "UnrecognizedClientException"),
    "expired": _EXPIRED,
    "signature": (400, "InvalidSignatureException"),
}


class _Put(NamedTuple):
    """One PutEvents call on its way: who, what, where, and what the plan does to it."""

    number: int
    now: float
    request_id: str
    caller: Caller
    entries: list[dict[str, Any]]
    buses: list[str]
    strike: Strike
    subject: Subject


class EventsService:
    """Handles requests with an ``AWSEvents`` target."""

    def __init__(
        self,
        *,
        directory: Directory,
        verifier: Verifier,
        injector: Injector,
        ledger: Ledger,
        queues: Queues,
        ids: Ids,
        clock: Callable[[], float],
    ) -> None:
        self._directory = directory
        self._verifier = verifier
        self._injector = injector
        self._ledger = ledger
        self._queues = queues
        self._ids = ids
        self._clock = clock

    def handle(self, request: Request, target: bytes) -> Reply:
        """Answer one request."""
        if target == b"AWSEvents.PutEvents":
            return self._put_events(request)
        request_id = self._ids.next()
        if target == b"AWSEvents.DescribeEventBus":
            return self._describe(request, request_id)
        return json_error(400, "UnknownOperationException", "", request_id)

    def _put_events(self, request: Request) -> Reply:
        number = self._ledger.next_call()
        request_id = self._ids.next()
        caller = self._verifier.verify(request, "events")
        if isinstance(caller, Unauthenticated):
            reply = _unauthenticated(caller, request_id)
            self._note_refused(number, reply)
            return reply
        entries = read_entries(request.body)
        if isinstance(entries, Refusal):
            reply = json_error(400, entries.code, entries.message, request_id)
            self._note_refused(number, reply, caller)
            return reply
        put = self._prepare(number, request_id, caller, entries)
        return self._decide(put, request.body)

    def _prepare(self, number: int, request_id: str, caller: Caller, entries: list[dict[str, Any]]) -> _Put:
        credential, region = caller
        account = credential.account
        buses = [bus_arn(one.get("EventBusName") or "default", region=region, account=account) for one in entries]
        subject, strike = Subject("PutEvents", credential.access_key, credential.role_arn, ()), NO_STRIKE
        if not self._injector.is_idle:
            subject = subject._replace(entries=tuple(map(_view, buses, entries)))
            strike = self._injector.strike_call(subject)
        return _Put(number, self._clock(), request_id, caller, entries, buses, strike, subject)

    def _decide(self, put: _Put, body: bytes) -> Reply:
        effect = put.strike.effect
        reply = None if effect is None else struck(effect, put.request_id, json_error, _EXPIRED)
        failed = 0
        if reply is None:
            reply = self._access_fault(put)
        if reply is None:
            taken = len(put.entries) - (isinstance(effect, Garbage) and effect.body == "short")
            results, failed, labels = self._take(put, taken, suspicious=is_suspicious(body))
            put = put._replace(strike=put.strike._replace(label=_joined(put.strike.label, labels)))
            reply = Reply(_OK, orjson.dumps({"FailedEntryCount": failed, "Entries": results}), JSON_1_1, put.request_id)
        if isinstance(effect, ResetAfter):
            reply = Reply(0, action="abort", request_id=put.request_id)
        self._note(put, reply, failed)
        return reply if put.strike.delay_secs == 0 else reply._replace(delay_secs=put.strike.delay_secs)

    def _access_fault(self, put: _Put) -> Reply | None:
        allow = put.caller.credential.permissions.allow
        denied = next((bus for bus in dict.fromkeys(put.buses) if not allow(PUT_EVENTS, bus)), None)
        return None if denied is None else _denied(put.caller, PUT_EVENTS, denied, put.request_id)

    def _take(self, put: _Put, taken: int, *, suspicious: bool) -> tuple[list[dict[str, str]], int, list[str]]:
        results: list[dict[str, str]] = []
        labels: list[str] = []
        failed = 0
        for index in range(taken):
            outcome = self._take_entry(put, index, labels, suspicious=suspicious)
            if isinstance(outcome, EntryRefusal):
                failed += 1
                results.append({"ErrorCode": outcome.code, "ErrorMessage": outcome.message})
            else:
                results.append({"EventId": outcome})
        return results, failed, labels

    def _take_entry(self, put: _Put, index: int, labels: list[str], *, suspicious: bool) -> str | EntryRefusal:
        entry, bus = put.entries[index], put.buses[index]
        detail = check_entry(entry, suspicious=suspicious)
        if isinstance(detail, EntryRefusal):
            return detail
        if put.subject.entries:
            strike = self._injector.strike_entry(put.subject, put.subject.entries[index])
            if strike is not None:
                labels.append(strike[1])
                return EntryRefusal(strike[0].code, strike[0].message)
        event_id = self._ids.next()
        if len(entry["DetailType"]) > MAX_DETAIL_TYPE or not self._directory.bus_exists(bus):
            self._ledger.counter["discarded"] += 1
        else:
            self._ledger.count_arrival(bus, put.now, detail)
            if self._ledger.keeps_records:
                self._ledger.arrivals.append(_arrival(put, index, event_id))
            if self._queues.has_rules(bus):
                self._queues.route(_arrival(put, index, event_id), put.caller.credential.account, detail)
        return event_id

    def _note(self, put: _Put, reply: Reply, failed: int) -> None:
        self._ledger.note_call(
            Call(
                number=put.number,
                at=put.now,
                status=reply.status,
                code=reply.error_type,
                access_key=put.caller.credential.access_key,
                bus_arns=tuple(dict.fromkeys(put.buses)),
                entries=len(put.entries),
                failed=failed,
                fault=put.strike.label,
                request_id=put.request_id,
            )
        )

    def _note_refused(self, number: int, reply: Reply, caller: Caller | None = None) -> None:
        access_key = caller.credential.access_key if caller is not None else ""
        self._ledger.note_call(
            Call(number, self._clock(), reply.status, reply.error_type, access_key, (), 0, 0, None, reply.request_id)
        )

    def _describe(self, request: Request, request_id: str) -> Reply:
        self._ledger.counter["describeEventBus"] += 1
        caller = self._verifier.verify(request, "events")
        if isinstance(caller, Unauthenticated):
            return _unauthenticated(caller, request_id)
        name = _described_name(request.body)
        if isinstance(name, Refusal):
            return json_error(400, name.code, name.message, request_id)
        credential = caller.credential
        arn = bus_arn(name, region=caller.region, account=credential.account)
        view = (EntryView(arn, "", ""),)
        strike = self._injector.strike_call(
            Subject("DescribeEventBus", credential.access_key, credential.role_arn, view)
        )
        if strike.label is not None:
            self._ledger.counter["faults"] += 1
        reply = None if strike.effect is None else struck(strike.effect, request_id, json_error, _EXPIRED)
        if isinstance(strike.effect, ResetAfter):
            reply = Reply(0, action="abort")
        if reply is None:
            reply = self._description(caller, name, arn, request_id)
        return reply._replace(delay_secs=strike.delay_secs)

    def _description(self, caller: Caller, name: str, arn: str, request_id: str) -> Reply:
        if not caller.credential.permissions.allow(DESCRIBE_BUS, arn):
            return _denied(caller, DESCRIBE_BUS, arn, request_id)
        short = arn.partition(":event-bus/")[2]
        if not self._directory.bus_exists(arn):
            return json_error(400, "ResourceNotFoundException", f"Event bus {name} does not exist.", request_id)
        return Reply(_OK, orjson.dumps({"Arn": arn, "Name": short}), JSON_1_1, request_id)


def _view(bus: str, entry: dict[str, Any]) -> EntryView:
    return EntryView(bus, entry.get("DetailType") or "", entry.get("Detail") or "")


def _arrival(put: _Put, index: int, event_id: str) -> Arrival:
    entry = put.entries[index]
    return Arrival(
        put.buses[index],
        entry["Source"],
        entry["DetailType"],
        entry["Detail"],
        tuple(entry.get("Resources") or ()),
        entry.get("Time"),
        entry.get("TraceHeader"),
        event_id,
        put.now,
        put.caller.credential.access_key,
        put.number,
        index,
    )


def _joined(label: str | None, more: list[str]) -> str | None:
    parts = [*([label] if label is not None else []), *dict.fromkeys(more)]
    return "+".join(parts) if parts else None


def _described_name(body: bytes) -> str | Refusal:
    try:
        document = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError:
        document = None
    name = (document.get("Name") or "default") if isinstance(document, dict) else None
    if not isinstance(name, str):
        return Refusal("SerializationException", "The request body is not what DescribeEventBus takes")
    if not is_bus_name(name):
        return invalid(f"'{name[:200]}'", "name", f"satisfy regular expression pattern: {BUS_PATTERN}")
    return name


def _unauthenticated(fault: Unauthenticated, request_id: str) -> Reply:
    status, code = _AUTH_ERRORS[fault.fault]
    return json_error(status, code, fault.message, request_id)


def _denied(caller: Caller, action: str, resource: str, request_id: str) -> Reply:
    text = (
        f"User: {caller.credential.arn} is not authorized to perform: {action} on resource: {resource} "
        f"because no identity-based policy allows the {action} action"
    )
    return json_error(400, "AccessDeniedException", text, request_id)
