"""EventBridge V2: PutEvents, as AWS answers it. A missing bus is told, and an entry that comes again is kept once."""

from __future__ import annotations

from typing import Final

from pushrail_stream.eventbridge.error_codes import BUS_KEY_DENIED
from pushrail_stream.sandbox.bus.entries import Refusal, is_suspicious
from pushrail_stream.sandbox.bus.entries_v2 import DEDUPLICATION_SECS, read_entries_v2
from tests.simulation.aws.accounts import Bus, Credential
from tests.simulation.aws.answers import Answer, cbor_answer, cbor_error
from tests.simulation.aws.eventbridge import EventBridgeService, SentEntry
from tests.simulation.aws.faults import ENTRY_ERRORS
from tests.simulation.aws.permissions import denial
from tests.simulation.aws.policies import PUT_EVENTS
from tests.simulation.aws.records import Blame, Call
from tests.simulation.aws.state import State

_KEY_DENIED: Final = "KMS_ACCESS_DENIED: The caller is not authorized to use the KMS key of the event bus"
_LATER_FAILURE: Final = 0.5
"""Part of the calls beyond the quota that fail entry by entry; the others are refused as a whole."""


class EventBridgeV2Service:
    """Carries calls out on the state of AWS. ``classic`` checks entries and notes arrivals."""

    def __init__(self, state: State, classic: EventBridgeService) -> None:
        self._state = state
        self._classic = classic
        self._kept: dict[tuple[str, str], tuple[float, str]] = {}
        """By bus and deduplication id: the time and the event id of the entry that the bus keeps."""

    def put_events(self, body: bytes, call: Call, who: Credential) -> Answer:
        """Answer PutEvents, and note what happened to each entry."""
        read = read_entries_v2(body)
        if isinstance(read, Refusal):
            call.blame, call.code = "event", read.code
            return cbor_error(400, *read, self._state.new_id())
        arn, found = read[0], [SentEntry(one, read[0]) for one in read[1]]
        is_over = not self._state.quotas.take(who.account, call.region, "PutEvents", call.at)
        if is_over:
            self._state.count("quota:PutEvents")
        if is_over and self._state.dice.random() >= _LATER_FAILURE:
            return self._refuse(found, call, "aws", 429, "ThrottlingException", "Rate exceeded")
        denied = denial(self._state.accounts, who, PUT_EVENTS, arn)
        if denied is not None:
            return self._refuse(found, call, denied.blame, 403, "AccessDeniedException", denied.message)
        bus = self._state.accounts.buses.get(arn)
        if bus is None:
            message = f"Event bus {arn} does not exist."
            return self._refuse(found, call, "customer", 404, "ResourceNotFoundException", message)
        if bus.is_key_denied:
            answer = self._refuse(found, call, "customer", 403, "AccessDeniedException", _KEY_DENIED)
            call.code = BUS_KEY_DENIED  # the session is not to blame
            return answer
        results = [self._take(one, bus, call, is_over=is_over) for one in found]
        failed = sum("ErrorCode" in one for one in results)
        return cbor_answer({"FailedEntryCount": failed, "Entries": results}, self._state.new_id())

    def note_refused(self, body: bytes, call: Call, blame: Blame) -> None:
        """Note what a call asked for that AWS did not carry out, and whose fault that is."""
        read = read_entries_v2(body)
        if not isinstance(read, Refusal):
            call.entries = [SentEntry(one, read[0]).truth(blame, code=call.code) for one in read[1]]

    def _take(self, entry: SentEntry, bus: Bus, call: Call, *, is_over: bool) -> dict[str, str]:
        """Take one entry, and return its result."""
        suspicious = is_suspicious(entry.fields["Detail"].encode())
        refusal = self._classic.refusal(entry, call, suspicious=suspicious, is_over=is_over)
        if refusal is not None:
            call.entries.append(entry.truth(ENTRY_ERRORS.get(refusal.code, "event"), code=refusal.code))
            return {"ErrorCode": refusal.code} | ({"ErrorMessage": refusal.message} if refusal.message else {})
        key = entry.fields["SystemMetadata"]["DeduplicationId"]
        at, known = self._kept.get((bus.arn, key), (0.0, ""))
        if known and call.at - at < DEDUPLICATION_SECS:
            self._state.count("deduplicated")
            call.entries.append(entry.truth("", event_id=known, is_repeat=True))
            return {"EventId": known, "SuccessCode": "DEDUPLICATED"}
        event_id = self._state.new_id()
        if key is not None:
            self._kept[bus.arn, key] = call.at, event_id
        call.entries.append(entry.truth("", event_id=event_id, taken=True))
        self._classic.note_arrival(entry, bus, event_id, call)
        return {"EventId": event_id, "SuccessCode": "PUBLISHED"}

    def _refuse(self, found: list[SentEntry], call: Call, blame: Blame, status: int, code: str, message: str) -> Answer:
        call.blame, call.code = blame, code
        call.entries = [one.truth(blame, code=code) for one in found]
        return cbor_error(status, code, message, self._state.new_id())
