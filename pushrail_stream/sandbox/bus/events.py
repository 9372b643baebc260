"""EventBridge: PutEvents and DescribeEventBus, answered as AWS answers them or as the plan of faults says."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import orjson

from pushrail_stream.sandbox.bus.backend import Backend, ErrorStyle, Injected
from pushrail_stream.sandbox.bus.entries import (
    MAX_DETAIL_TYPE,
    EntryRefusal,
    Refusal,
    check_entry,
    invalid,
    is_suspicious,
    read_entries,
)
from pushrail_stream.sandbox.bus.faults import Garbage
from pushrail_stream.sandbox.bus.identity import BUS_PATTERN, bus_arn, is_bus_name
from pushrail_stream.sandbox.bus.injector import CallView, EntryView
from pushrail_stream.sandbox.bus.ledger import Arrival, Call
from pushrail_stream.sandbox.bus.policies import DESCRIBE_BUS, PUT_EVENTS
from pushrail_stream.sandbox.bus.queues import Queues
from pushrail_stream.sandbox.bus.replies import json_error
from pushrail_stream.sandbox.bus.signature import AuthFault, Caller, Unauthenticated
from pushrail_stream.sandbox.bus.wire import JSON_1_1, Reply, Request

_OK: Final = 200
_EXPIRED: Final = (400, "ExpiredTokenException")
_STYLE: Final = ErrorStyle(json_error, _EXPIRED)
_AUTH_ERRORS: Final[dict[AuthFault, tuple[int, str]]] = {
    "missing": (400, "MissingAuthenticationToken"),
    "incomplete": (403, "IncompleteSignature"),
    "unknown": (400, "UnrecognizedClientException"),
    "expired": _EXPIRED,
    "signature": (400, "InvalidSignatureException"),
}


class _Put(NamedTuple):
    """One PutEvents call that passed the checks of the whole call."""

    number: int
    now: float
    request_id: str
    caller: Caller
    entries: list[dict[str, Any]]
    buses: list[str]
    """The bus ARN of each entry."""
    view: CallView
    injected: Injected


class EventsService:
    """Handles requests with an ``AWSEvents`` target."""

    def __init__(self, backend: Backend, queues: Queues) -> None:
        self._backend = backend
        self._ledger = backend.ledger
        self._queues = queues

    def handle(self, request: Request, target: bytes) -> Reply:
        """Answer one request."""
        if target == b"AWSEvents.PutEvents":
            return self._put_events(request)
        request_id = self._backend.ids.next()
        if target == b"AWSEvents.DescribeEventBus":
            return self._describe(request, request_id)
        return json_error(400, "UnknownOperationException", "", request_id)

    def _put_events(self, request: Request) -> Reply:
        number = self._ledger.next_call()
        request_id = self._backend.ids.next()
        caller = self._backend.verifier.verify(request, "events")
        if isinstance(caller, Unauthenticated):
            return self._refuse(number, _unauthenticated(caller, request_id))
        entries = read_entries(request.body)
        if isinstance(entries, Refusal):
            reply = json_error(400, entries.code, entries.message, request_id)
            return self._refuse(number, reply, caller.credential.access_key)
        return self._answer(self._prepare(number, request_id, caller, entries), request.body)

    def _refuse(self, number: int, reply: Reply, access_key: str = "") -> Reply:
        now = self._backend.clock()
        self._ledger.note_call(
            Call(number, now, reply.status, reply.error_type, access_key, (), 0, 0, None, reply.request_id)
        )
        return reply

    def _prepare(self, number: int, request_id: str, caller: Caller, entries: list[dict[str, Any]]) -> _Put:
        credential, region = caller
        account = credential.account
        buses = [bus_arn(one.get("EventBusName") or "default", region=region, account=account) for one in entries]
        # Without a plan no rule looks at the entries.
        views = tuple(map(_view, buses, entries)) if self._backend.injector.rules else ()
        view = CallView("PutEvents", credential.access_key, credential.role_arn, views)
        injected = self._backend.inject(view, request_id, _STYLE)
        return _Put(number, self._backend.clock(), request_id, caller, entries, buses, view, injected)

    def _answer(self, put: _Put, body: bytes) -> Reply:
        label, failed = put.injected.fault.label, 0
        reply = put.injected.reply or self._denial(put)
        if reply is None:
            results, labels = self._take(put, suspicious=is_suspicious(body))
            failed = sum("ErrorCode" in result for result in results)
            label = "+".join([*([label] if label else []), *dict.fromkeys(labels)]) or None
            reply = Reply(_OK, orjson.dumps({"FailedEntryCount": failed, "Entries": results}), JSON_1_1, put.request_id)
        reply = put.injected.finish(reply)
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
                fault=label,
                request_id=put.request_id,
            )
        )
        return reply

    def _denial(self, put: _Put) -> Reply | None:
        allow = put.caller.credential.permissions.allow
        denied = next((bus for bus in dict.fromkeys(put.buses) if not allow(PUT_EVENTS, bus)), None)
        return None if denied is None else _denied(put.caller, PUT_EVENTS, denied, put.request_id)

    def _take(self, put: _Put, *, suspicious: bool) -> tuple[list[dict[str, str]], list[str]]:
        """Return the result of each entry, and the labels of the rules that failed entries."""
        effect = put.injected.fault.effect
        taken = len(put.entries) - (isinstance(effect, Garbage) and effect.body == "short")
        labels: list[str] = []
        results = [self._take_entry(put, index, labels, suspicious=suspicious) for index in range(taken)]
        return [
            {"ErrorCode": result.code, "ErrorMessage": result.message}
            if isinstance(result, EntryRefusal)
            else {"EventId": result}
            for result in results
        ], labels

    def _take_entry(self, put: _Put, index: int, labels: list[str], *, suspicious: bool) -> str | EntryRefusal:
        entry, bus = put.entries[index], put.buses[index]
        detail = check_entry(entry, suspicious=suspicious)
        if isinstance(detail, EntryRefusal):
            return detail
        if put.view.entries:
            fault = self._backend.injector.fault_of_entry(put.view, put.view.entries[index])
            if fault is not None:
                labels.append(fault[1])
                return EntryRefusal(fault[0].code, fault[0].message)
        event_id = self._backend.ids.next()
        if len(entry["DetailType"]) > MAX_DETAIL_TYPE or not self._backend.directory.bus_exists(bus):
            self._ledger.counter["discarded"] += 1
            return event_id
        arrival = _arrival(put, index, event_id)
        self._ledger.note_arrival(arrival)
        self._queues.route(arrival, put.caller.credential.account, detail)
        return event_id

    def _describe(self, request: Request, request_id: str) -> Reply:
        self._ledger.counter["describeEventBus"] += 1
        caller = self._backend.verifier.verify(request, "events")
        if isinstance(caller, Unauthenticated):
            return _unauthenticated(caller, request_id)
        name = _described_name(request.body)
        if isinstance(name, Refusal):
            return json_error(400, name.code, name.message, request_id)
        credential = caller.credential
        arn = bus_arn(name, region=caller.region, account=credential.account)
        view = CallView("DescribeEventBus", credential.access_key, credential.role_arn, (EntryView(arn, "", ""),))
        injected = self._backend.inject(view, request_id, _STYLE)
        if injected.fault.label is not None:
            self._ledger.counter["faults"] += 1
        return injected.finish(injected.reply or self._description(caller, name, arn, request_id))

    def _description(self, caller: Caller, name: str, arn: str, request_id: str) -> Reply:
        if not caller.credential.permissions.allow(DESCRIBE_BUS, arn):
            return _denied(caller, DESCRIBE_BUS, arn, request_id)
        if not self._backend.directory.bus_exists(arn):
            return json_error(400, "ResourceNotFoundException", f"Event bus {name} does not exist.", request_id)
        short = arn.partition(":event-bus/")[2]
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


def _described_name(body: bytes) -> str | Refusal:
    try:
        document = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError:
        document = None
    name = (document.get("Name") or "default") if isinstance(document, dict) else None
    if not isinstance(name, str):
        return Refusal("SerializationException", "The request body does not fit DescribeEventBus")
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
