"""EventBridge V2: PutEvents and DescribeEventBus, answered as AWS answers them or as the plan of faults says."""

from __future__ import annotations

from typing import Any, Final

from pushrail_stream.sandbox.bus.backend import Backend, Injected
from pushrail_stream.sandbox.bus.entries import Refusal, check_entry, is_suspicious
from pushrail_stream.sandbox.bus.entries_v2 import DEDUPLICATION_SECS, PATH, read_described_bus, read_entries_v2
from pushrail_stream.sandbox.bus.faults import Garbage
from pushrail_stream.sandbox.bus.injector import CallView, EntryView
from pushrail_stream.sandbox.bus.ledger import Arrival, Call
from pushrail_stream.sandbox.bus.policies import DESCRIBE_BUS, PUT_EVENTS
from pushrail_stream.sandbox.bus.replies import ErrorStyle, cbor_error, cbor_result
from pushrail_stream.sandbox.bus.signature import Caller, Unauthenticated
from pushrail_stream.sandbox.bus.wire import Reply, Request

_PROTOCOL: Final = b"rpc-v2-cbor"
_STYLE: Final = ErrorStyle(
    cbor_error,
    {
        "missing": (403, "MissingAuthenticationTokenException"),
        "incomplete": (403, "IncompleteSignatureException"),
        "unknown": (403, "UnrecognizedClientException"),
        "expired": (403, "ExpiredTokenException"),
        "signature": (403, "InvalidSignatureException"),
    },
)


class EventsV2Service:
    """Handles requests to the paths of ``AWSEventsV2``."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._ledger = backend.ledger
        self._taken: dict[tuple[str, str], tuple[float, str]] = {}
        """By bus and deduplication id: when the entry came that the bus keeps, and its event id."""

    def handle(self, request: Request) -> Reply:
        """Answer one request."""
        operation = request.path.removeprefix(PATH)
        is_spoken = request.headers.get(b"smithy-protocol") == _PROTOCOL
        if is_spoken and operation == "PutEvents":
            return self._put_events(request)
        request_id = self._backend.ids.next()
        if is_spoken and operation == "DescribeEventBus":
            return self._describe(request, request_id)
        return cbor_error(404, "UnknownOperationException", "", request_id)

    def _put_events(self, request: Request) -> Reply:
        begun = self._backend.begin(request, _STYLE)
        if isinstance(begun, Reply):
            return begun
        call, caller = begun
        read = read_entries_v2(request.body)
        if isinstance(read, Refusal):
            return self._backend.end(call, cbor_error(400, *read, call.request_id))
        bus, entries = read
        views = tuple(EntryView(bus, entry["DetailType"], entry["Detail"]) for entry in entries)
        view = _view("PutEvents", caller, views)
        injected = self._backend.inject(view, call.request_id, _STYLE)
        call = call._replace(bus_arns=(bus,), entries=len(entries), fault=injected.fault.label)
        reply = injected.reply or self._refusal(caller, PUT_EVENTS, bus, call.request_id)
        if reply is None:
            call, reply = self._take(call, view, entries, injected)
        return self._backend.end(call, injected.finish(reply))

    def _refusal(self, caller: Caller, action: str, bus: str, request_id: str) -> Reply | None:
        """The refusal of a call that may not be made, or whose bus does not exist; else None."""
        credential = caller.credential
        if not credential.permissions.allow(action, bus):
            text = (
                f"User: {credential.arn} is not authorized to perform: {action} on resource: {bus} "
                f"because no identity-based policy allows the {action} action"
            )
            return cbor_error(403, "AccessDeniedException", text, request_id)
        if not self._backend.directory.bus_exists(bus):
            return cbor_error(404, "ResourceNotFoundException", f"Event bus {bus} does not exist.", request_id)
        return None

    def _take(
        self, call: Call, view: CallView, entries: list[dict[str, Any]], injected: Injected
    ) -> tuple[Call, Reply]:
        """Take the entries; the call with the number of those that failed, and the reply."""
        effect, labels = injected.fault.effect, list[str]()
        taken = entries[: len(entries) - (isinstance(effect, Garbage) and effect.body == "short")]
        results = [self._take_entry(call, view, index, entry, labels) for index, entry in enumerate(taken)]
        failed = sum("ErrorCode" in result for result in results)
        reply = cbor_result({"FailedEntryCount": failed, "Entries": results}, call.request_id)
        return call.with_results(failed, labels), reply

    def _take_entry(
        self, call: Call, view: CallView, index: int, entry: dict[str, Any], labels: list[str]
    ) -> dict[str, str]:
        """The result of one entry. ``labels`` gets the name of a rule that fails it."""
        refusal = check_entry(entry, suspicious=is_suspicious(entry["Detail"].encode()))
        if refusal is not None:
            return {"ErrorCode": refusal.code, "ErrorMessage": refusal.message}
        one = view.entries[index]
        if (fault := self._backend.injector.fault_of_entry(view, one)) is not None:
            labels.append(fault[1])
            # As an optional field of the service model, an empty message is left out.
            said = {"ErrorMessage": fault[0].message} if fault[0].message else {}
            return {"ErrorCode": fault[0].code, **said}
        event_id, key = self._backend.ids.next(), entry["SystemMetadata"]["DeduplicationId"]
        if key is not None:
            at, known = self._taken.get((one.bus, key), (0.0, ""))
            if known and call.at - at < DEDUPLICATION_SECS:
                self._ledger.counter["deduplicated"] += 1
                return {"EventId": known, "SuccessCode": "DEDUPLICATED"}
            self._taken[one.bus, key] = call.at, event_id
        sent = entry["Source"], entry["DetailType"], entry["Detail"], tuple(entry["Resources"]), entry["Time"]
        came = event_id, call.at, call.access_key, call.number, index
        self._ledger.note_arrival(Arrival(one.bus, *sent, None, *came))
        return {"EventId": event_id, "SuccessCode": "PUBLISHED", "SequenceNumber": f"{call.number:012}{index:03}"}

    def _describe(self, request: Request, request_id: str) -> Reply:
        self._ledger.counter["describeEventBus"] += 1
        caller = self._backend.verifier.verify(request, "events")
        if isinstance(caller, Unauthenticated):
            return _STYLE.refuse(caller, request_id)
        bus = read_described_bus(request.body)
        if isinstance(bus, Refusal):
            return cbor_error(400, *bus, request_id)
        view = _view("DescribeEventBus", caller, (EntryView(bus, "", ""),))
        injected = self._backend.inject(view, request_id, _STYLE)
        self._ledger.counter["faults"] += injected.fault.label is not None
        reply = injected.reply or self._refusal(caller, DESCRIBE_BUS, bus, request_id)
        if reply is None:
            reply = cbor_result({"EventBusArn": bus, "Name": bus.split("/")[1], "State": "ACTIVE"}, request_id)
        return injected.finish(reply)


def _view(operation: str, caller: Caller, entries: tuple[EntryView, ...]) -> CallView:
    return CallView(operation, caller.credential.access_key, caller.credential.role_arn, entries)
