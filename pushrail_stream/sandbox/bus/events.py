"""EventBridge, answered as AWS answers or as the plan of faults says.

The operations are PutEvents and DescribeEventBus, and a partner's PutPartnerEvents and ListPartnerEventSourceAccounts.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import orjson

from pushrail_stream.sandbox.bus.backend import Backend, Injected
from pushrail_stream.sandbox.bus.entries import (
    MAX_DETAIL_TYPE,
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
from pushrail_stream.sandbox.bus.partner import answer_accounts, partner_limit_refusal, read_source, source_arn
from pushrail_stream.sandbox.bus.policies import DESCRIBE_BUS, LIST_ACCOUNTS, PUT_EVENTS, PUT_PARTNER_EVENTS
from pushrail_stream.sandbox.bus.replies import ErrorStyle, json_error
from pushrail_stream.sandbox.bus.signature import Caller, Unauthenticated
from pushrail_stream.sandbox.bus.wire import JSON_1_1, Reply, Request

_OK: Final = 200
_STYLE: Final = ErrorStyle(
    json_error,
    {
        "missing": (400, "MissingAuthenticationToken"),
        "incomplete": (403, "IncompleteSignature"),
        "unknown": (400, "UnrecognizedClientException"),
        "expired": (400, "ExpiredTokenException"),
        "signature": (400, "InvalidSignatureException"),
    },
)


class _Put(NamedTuple):
    """One PutEvents call that passed the checks of the whole call."""

    call: Call
    """Its record, without the answer."""
    caller: Caller
    entries: list[dict[str, Any]]
    buses: list[str]
    """The bus ARN of each entry."""
    view: CallView
    injected: Injected
    is_partner: bool
    """Whether it is a call of PutPartnerEvents."""


class EventsService:
    """Handles requests with an ``AWSEvents`` target."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._ledger = backend.ledger

    def handle(self, request: Request, target: bytes) -> Reply:
        """Answer one request."""
        if target in {b"AWSEvents.PutEvents", b"AWSEvents.PutPartnerEvents"}:
            return self._put_events(request, is_partner=target == b"AWSEvents.PutPartnerEvents")
        request_id = self._backend.ids.next()
        if target == b"AWSEvents.DescribeEventBus":
            return self._describe(request, request_id)
        if target == b"AWSEvents.ListPartnerEventSourceAccounts":
            return self._list_accounts(request, request_id)
        return json_error(400, "UnknownOperationException", "", request_id)

    def _put_events(self, request: Request, *, is_partner: bool) -> Reply:
        begun = self._backend.begin(request, _STYLE)
        if isinstance(begun, Reply):
            return begun
        call, caller = begun
        entries = read_entries(request.body, partner_limit_refusal if is_partner else None)
        if isinstance(entries, Refusal):
            return self._backend.end(call, json_error(400, *entries, call.request_id))
        return self._answer(self._prepare(call, caller, entries, is_partner=is_partner), request.body)

    def _prepare(self, call: Call, caller: Caller, entries: list[dict[str, Any]], *, is_partner: bool) -> _Put:
        credential, region = caller
        account = credential.account
        if is_partner:
            buses = [self._backend.directory.partner_bus(one.get("Source") or "", region) for one in entries]
        else:
            buses = [bus_arn(one.get("EventBusName") or "default", region=region, account=account) for one in entries]
        # Without a plan no rule looks at the entries.
        views = tuple(map(_view, buses, entries)) if self._backend.injector.rules else ()
        operation = "PutPartnerEvents" if is_partner else "PutEvents"
        view = CallView(operation, credential.access_key, credential.role_arn, views)
        call = call._replace(bus_arns=tuple(dict.fromkeys(buses)), entries=len(entries))
        injected = self._backend.inject(view, call.request_id, _STYLE)
        return _Put(call, caller, entries, buses, view, injected, is_partner)

    def _answer(self, put: _Put, body: bytes) -> Reply:
        call = put.call._replace(fault=put.injected.fault.label)
        reply = put.injected.reply or self._denial(put)
        if reply is None:
            results, labels = self._take(put, suspicious=is_suspicious(body))
            failed = sum("ErrorCode" in result for result in results)
            call = call.with_results(failed, labels)
            answer = {"FailedEntryCount": failed, "Entries": results}
            reply = Reply(_OK, orjson.dumps(answer), JSON_1_1, call.request_id)
        return self._backend.end(call, put.injected.finish(reply))

    def _denial(self, put: _Put) -> Reply | None:
        allow = put.caller.credential.permissions.allow
        if put.is_partner:
            sources = (source_arn(bus) for bus in put.call.bus_arns)
            denied = next((source for source in sources if not allow(PUT_PARTNER_EVENTS, source)), None)
            return None if denied is None else _denied(put.caller, PUT_PARTNER_EVENTS, denied, put.call.request_id)
        denied = next((bus for bus in put.call.bus_arns if not allow(PUT_EVENTS, bus)), None)
        return None if denied is None else _denied(put.caller, PUT_EVENTS, denied, put.call.request_id)

    def _take(self, put: _Put, *, suspicious: bool) -> tuple[list[dict[str, str]], list[str]]:
        """Return the result of each entry, and the labels of the rules that failed entries."""
        effect = put.injected.fault.effect
        taken = len(put.entries) - (isinstance(effect, Garbage) and effect.body == "short")
        labels: list[str] = []
        results = [self._take_entry(put, index, labels, suspicious=suspicious) for index in range(taken)]
        return [
            {"ErrorCode": result.code, "ErrorMessage": result.message}
            if isinstance(result, Refusal)
            else {"EventId": result}
            for result in results
        ], labels

    def _take_entry(self, put: _Put, index: int, labels: list[str], *, suspicious: bool) -> str | Refusal:
        entry, bus = put.entries[index], put.buses[index]
        refusal = check_entry(entry, suspicious=suspicious, is_partner=put.is_partner)
        if refusal is not None:
            return refusal
        if put.view.entries:
            fault = self._backend.injector.fault_of_entry(put.view, put.view.entries[index])
            if fault is not None:
                labels.append(fault[1])
                return Refusal(fault[0].code, fault[0].message)
        event_id = self._backend.ids.next()
        if len(entry["DetailType"]) > MAX_DETAIL_TYPE or not self._backend.directory.bus_exists(bus):
            self._ledger.counter["discarded"] += 1
            return event_id
        self._ledger.note_arrival(_arrival(put, index, event_id))
        return event_id

    def _describe(self, request: Request, request_id: str) -> Reply:
        self._ledger.counter["describeEventBus"] += 1
        caller = self._backend.verifier.verify(request, "events")
        if isinstance(caller, Unauthenticated):
            return _STYLE.refuse(caller, request_id)
        name = _described_name(request.body)
        if isinstance(name, Refusal):
            return json_error(400, *name, request_id)
        credential = caller.credential
        arn = bus_arn(name, region=caller.region, account=credential.account)
        view = CallView("DescribeEventBus", credential.access_key, credential.role_arn, (EntryView(arn, "", ""),))
        injected = self._backend.inject(view, request_id, _STYLE)
        if injected.fault.label is not None:
            self._ledger.counter["faults"] += 1
        return injected.finish(injected.reply or self._description(caller, name, arn, request_id))

    def _list_accounts(self, request: Request, request_id: str) -> Reply:
        self._ledger.counter["describeEventBus"] += 1
        caller = self._backend.verifier.verify(request, "events")
        if isinstance(caller, Unauthenticated):
            return _STYLE.refuse(caller, request_id)
        source = read_source(request.body)
        if isinstance(source, Refusal):
            return json_error(400, *source, request_id)
        credential, region = caller
        bus = self._backend.directory.partner_bus(source, region)
        entries = (EntryView(bus, "", ""),)
        view = CallView("ListPartnerEventSourceAccounts", credential.access_key, credential.role_arn, entries)
        injected = self._backend.inject(view, request_id, _STYLE)
        self._ledger.counter["faults"] += injected.fault.label is not None
        if injected.reply is not None:
            return injected.finish(injected.reply)
        if not credential.permissions.allow(LIST_ACCOUNTS, source_arn(bus)):
            return injected.finish(_denied(caller, LIST_ACCOUNTS, source_arn(bus), request_id))
        return injected.finish(answer_accounts(self._backend.directory, bus, request_id))

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
        put.call.at,
        put.call.access_key,
        put.call.number,
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


def _denied(caller: Caller, action: str, resource: str, request_id: str) -> Reply:
    text = (
        f"User: {caller.credential.arn} is not authorized to perform: {action} on resource: {resource} "
        f"because no identity-based policy allows the {action} action"
    )
    return json_error(400, "AccessDeniedException", text, request_id)
