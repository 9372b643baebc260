"""EventBridge: PutEvents and DescribeEventBus, as AWS answers them. eventbridgev2 is in `eventbridge_v2`."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import orjson

from pushrail_stream.sandbox.bus.entries import MAX_DETAIL_TYPE, Refusal, check_entry, is_suspicious, read_entries
from tests.simulation.aws.accounts import Bus, Credential
from tests.simulation.aws.answers import Answer, json_answer, json_error
from tests.simulation.aws.faults import ENTRY_ERRORS
from tests.simulation.aws.permissions import denial
from tests.simulation.aws.policies import DESCRIBE_BUS, PUT_EVENTS
from tests.simulation.aws.records import Arrival, Blame, Call, EntryTruth
from tests.simulation.aws.state import State

_KEY_PLACE: Final = 1
"""Place of the idempotency key among an entry's resources, as the product writes them."""
_LATER_FAILURE: Final = 0.5
"""Part of the calls beyond the quota that fail entry by entry; the others are refused as a whole."""


class SentEntry(NamedTuple):
    """One entry with the ARN of its bus."""

    fields: dict[str, Any]
    bus: str

    @property
    def key(self) -> str:
        resources: list[str] = self.fields.get("Resources") or []
        return resources[_KEY_PLACE] if len(resources) > _KEY_PLACE else ""

    def truth(
        self, blame: Blame, *, code: str = "", event_id: str = "", taken: bool = False, is_repeat: bool = False
    ) -> EntryTruth:
        """The result. An entry with an id is confirmed."""
        sent = self.fields.get("Detail") or "", tuple(self.fields.get("Resources") or ())
        return EntryTruth(self.bus, self.key, taken, bool(event_id), code, blame, event_id, *sent, is_repeat)


def arn_of(name: str, region: str, account: str) -> str:
    """The ARN of a bus by its name or ARN, as an entry of this caller names it."""
    return name if name.startswith("arn:") else f"arn:aws:events:{region}:{account}:event-bus/{name}"


def account_of_body(body: bytes) -> str:
    """The account of the bus that a request is about; empty when none is named. The request may be anything."""
    start, found, _ = body.partition(b":event-bus")
    rest = start.rpartition(b":")[2]
    return rest.decode("latin-1") if found and rest.isdigit() else ""


class EventBridgeService:
    """Carries calls out on the state of AWS."""

    def __init__(self, state: State) -> None:
        self._state = state

    def put_events(self, body: bytes, call: Call, who: Credential) -> Answer:
        """Answer PutEvents, and note what happened to each entry."""
        entries = read_entries(body)
        if isinstance(entries, Refusal):
            call.blame = "event"
            return self._refuse(call, 400, *entries)
        buses = [arn_of(one.get("EventBusName") or "default", call.region, who.account) for one in entries]
        found = list(map(SentEntry, entries, buses))
        is_over = not self._state.quotas.take(who.account, call.region, "PutEvents", call.at)
        if is_over:
            self._state.count("quota:PutEvents")
        if is_over and self._state.dice.random() >= _LATER_FAILURE:
            return self._refuse_all(found, call, "aws", "ThrottlingException", "Rate exceeded")
        for bus in dict.fromkeys(one.bus for one in found):
            denied = denial(self._state.accounts, who, PUT_EVENTS, bus)
            if denied is not None:
                return self._refuse_all(found, call, denied.blame, "AccessDeniedException", denied.message)
        suspicious = is_suspicious(body)
        results = [self._take(one, call, suspicious=suspicious, is_over=is_over) for one in found]
        failed = sum("ErrorCode" in one for one in results)
        return json_answer({"FailedEntryCount": failed, "Entries": results}, self._state.new_id())

    def note_refused(self, body: bytes, call: Call, blame: Blame) -> None:
        """Note what a call asked for that AWS did not carry out, and whose fault that is."""
        if call.api == "DescribeEventBus":
            call.bus = arn_of(_name(body) or "", call.region, "")
            return
        entries = read_entries(body)
        if not isinstance(entries, Refusal):
            found = [SentEntry(one, arn_of(one.get("EventBusName") or "default", call.region, "")) for one in entries]
            call.entries = [one.truth(blame, code=call.code) for one in found]

    def describe_bus(self, body: bytes, call: Call, who: Credential) -> Answer:
        """Answer DescribeEventBus."""
        name = _name(body)
        arn = call.bus = arn_of(name or "", call.region, who.account)
        if not self._state.quotas.take(who.account, call.region, "DescribeEventBus", call.at):
            self._state.count("quota:DescribeEventBus")
            call.blame = "aws"
            return self._refuse(call, 400, "ThrottlingException", "Rate exceeded")
        if name is None:
            call.blame = "ours"
            return self._refuse(call, 400, "SerializationException", "The body is no request of DescribeEventBus")
        denied = denial(self._state.accounts, who, DESCRIBE_BUS, arn)
        if denied is not None:
            call.blame = denied.blame
            return self._refuse(call, 400, "AccessDeniedException", denied.message)
        if self._bus(arn) is None:
            call.blame = "customer"
            return self._refuse(call, 400, "ResourceNotFoundException", f"Event bus {name} does not exist.")
        return json_answer({"Arn": arn, "Name": arn.partition(":event-bus/")[2]}, self._state.new_id())

    def _bus(self, arn: str) -> Bus | None:
        """The bus; every account has its default bus."""
        buses = self._state.accounts.buses
        return buses.get(arn) or (Bus(arn) if arn.endswith(":event-bus/default") else None)

    def _take(self, entry: SentEntry, call: Call, *, suspicious: bool, is_over: bool) -> dict[str, str]:
        """Take one entry, and return its result."""
        refusal = self.refusal(entry, call, suspicious=suspicious, is_over=is_over)
        if refusal is not None:
            call.entries.append(entry.truth(ENTRY_ERRORS.get(refusal.code, "event"), code=refusal.code))
            return {"ErrorCode": refusal.code, "ErrorMessage": refusal.message}
        event_id = self._state.new_id()
        bus = self._bus(entry.bus)
        # An entry for a missing bus, and one with a long detail type, vanish without a word.
        vanishes = bus is None or len(entry.fields["DetailType"]) > MAX_DETAIL_TYPE
        blame: Blame = "" if not vanishes else "customer" if bus is None else "event"
        call.entries.append(entry.truth(blame, event_id=event_id, taken=not vanishes))
        if bus is not None and not vanishes:
            self.note_arrival(entry, bus, event_id, call)
        return {"EventId": event_id}

    def refusal(self, entry: SentEntry, call: Call, *, suspicious: bool, is_over: bool) -> Refusal | None:
        """The refusal of one entry; None when AWS takes it."""
        if is_over and self._state.dice.random() < _LATER_FAILURE:
            return Refusal("ThrottlingException", "Rate exceeded")
        refusal = check_entry(entry.fields, suspicious=suspicious)
        if refusal is not None:
            return refusal
        bus = self._state.accounts.buses.get(entry.bus)
        if bus is not None and entry.fields["Source"] in bus.refused_sources:
            return Refusal("NotAuthorizedForSourceException", "Not authorized for the source.")
        if bus is not None and entry.fields["DetailType"] in bus.refused_detail_types:
            return Refusal("NotAuthorizedForDetailTypeException", "Not authorized for the detail type.")
        fault = self._state.faults.draw("entry", "PutEvents", call.region, entry.bus.split(":")[4])
        if fault is None:
            return None
        self._state.count(fault.kind)
        return Refusal(fault.kind.removeprefix("entry:"), "")

    def note_arrival(self, entry: SentEntry, bus: Bus, event_id: str, call: Call) -> None:
        """Note an entry that a bus took. The truth about it is the last of its call."""
        fields = entry.fields
        arrival = Arrival(
            account=bus.arn.split(":")[4],
            bus=bus.arn,
            generation=bus.generation,
            event_id=event_id,
            idempotency_key=entry.key,
            source=fields["Source"],
            detail_type=fields["DetailType"],
            detail=fields["Detail"],
            resources=tuple(fields.get("Resources") or ()),
            principal=call.principal,
            at=call.at,
            call=call.number,
            place=len(call.entries) - 1,
        )
        self._state.arrivals.append(arrival)
        self._state.note("arrival", bus=bus.arn, key=entry.key, call=call.number)

    def _refuse_all(self, found: list[SentEntry], call: Call, blame: Blame, code: str, message: str) -> Answer:
        call.blame = blame
        call.entries = [one.truth(blame, code=code) for one in found]
        return self._refuse(call, 400, code, message)

    def _refuse(self, call: Call, status: int, code: str, message: str) -> Answer:
        call.code = code
        return json_error(status, code, message, self._state.new_id())


def _name(body: bytes) -> str | None:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    name = document.get("Name") if isinstance(document, dict) else None
    return name if isinstance(name, str) else None
