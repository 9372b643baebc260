"""Copies that differ from their event, and entries at a wrong bus."""

from __future__ import annotations

from pushrail_stream.core.record import NOT_UTF8
from tests.simulation.oracle.copies import find_corrupt_arrivals, find_unmarked_replays, find_untrue_copies
from tests.simulation.oracle.evidence import ReplayRun, Violation
from tests.simulation.oracle.told import BUS, CUSTOMER, ONE, TIER, WORKER, Told, delivered, event_value


def problems(violations: list[Violation]) -> list[str]:
    return [violation.sentence.rpartition(": ")[2] for violation in violations]


def copies(told: Told) -> list[str]:
    return problems(list(find_untrue_copies(told.story)))


def arrivals(told: Told) -> list[str]:
    return [violation.sentence for violation in find_corrupt_arrivals(told.story)]


def test_a_copy_is_the_events_record() -> None:
    told, _ = delivered()
    event = told.event(1_003.0, 7, headers=(("traceparent", b"00"),))
    copy = told.copy(1_004.0, event)
    told.copy(1_004.0, event, "blocked")
    assert copies(told) == []
    copy.record = copy.record._replace(value=event_value(8))
    assert copies(told) == ["key or value differ"]


def test_the_producers_headers_stay() -> None:
    told, _ = delivered()
    event = told.event(1_003.0, 7, headers=(("traceparent", b"00"),))
    copy = told.copy(1_004.0, event)
    copy.record = copy.record._replace(headers=copy.record.headers[1:])
    assert copies(told) == ["the producer's headers differ"]


def test_an_entry_has_the_form_of_its_document() -> None:
    told, _ = delivered()
    assert arrivals(told) == []
    (call,) = told.evidence.calls
    call.entries = tuple(one._replace(is_cloud_event=True) for one in call.entries)
    (found,) = arrivals(told)
    assert "took an event in the form cloudevents" in found
    told.document(0.0, detailFormat="cloudevents")
    assert arrivals(told) == []


def test_a_copy_names_an_event() -> None:
    told, event = delivered()
    told.copy(1_004.0, event, origin=event.origin._replace(offset=9))
    assert copies(told) == ["there is no such event"]


def test_reasons_belong_to_their_topic() -> None:
    told, event = delivered()
    copy = told.copy(1_004.0, event, "blocked")
    copy.record = copy.record._replace(topic=TIER)
    assert copies(told) == ["a retry copy has the reason blocked"]


def test_headers_that_cannot_be_read_are_found() -> None:
    told, _ = delivered()
    told.write(1_004.0, TIER, event_value(0), (("pushrail-origin", b"nowhere"),), WORKER)
    assert len(copies(told)) == 1
    told.evidence.written[-1].host = "somebody"
    assert copies(told) == [], "any client may write there"


def test_an_entry_is_an_event_byte_for_byte() -> None:
    told, event = delivered()
    assert arrivals(told) == []
    told.call(1_005.0, told.event(1_004.0, 7))
    told.evidence.written[-1].record = event.record._replace(value=event_value(8))
    (found,) = arrivals(told)
    assert found.startswith(f"{BUS} took b'")
    assert found.endswith("which is the value of no event at 1005.000")


def test_an_event_goes_to_its_own_customer() -> None:
    told, _ = delivered()
    told.document(2.0, name="dst_two", busArn="arn:two", customerExternalId="acct_two")
    event = told.event(1_004.0, value=event_value(7, customerExternalId="acct_two"))
    told.call(1_005.0, event)
    assert arrivals(told) == [f"{BUS} took an event of acct_two at 1005.000"]


def test_an_entry_names_its_customer() -> None:
    told, event = delivered()
    call = told.call(1_005.0, event)
    call.entries = (call.entries[0]._replace(resources=("key-0", CUSTOMER)),)
    (found,) = arrivals(told)
    assert "took an entry with the resources" in found


def test_a_bus_of_no_document_gets_nothing() -> None:
    told, event = delivered()
    told.call(1_005.0, event, target="arn:other")
    (found,) = arrivals(told)
    assert found.startswith("arn:other took")
    assert "no document names it" in found


def test_an_event_is_not_delivered_before_it_is_written() -> None:
    told, event = delivered()
    event.at = 1_001.5
    (found,) = arrivals(told)
    assert "before it was written" in found
    assert told.story.documents.group(ONE) == ONE


def replays(told: Told) -> list[str]:
    return problems(list(find_unmarked_replays(told.story)))


def test_a_replayed_dead_letter_has_a_mark() -> None:
    told, event = delivered()
    copy = told.copy(1_004.0, event, host="office", replay="rp-1", replay_count=1)
    copy.record = copy.record._replace(
        headers=tuple((name, b"0" if name == "pushrail-attempts" else value) for name, value in copy.record.headers)
    )
    assert len(replays(told)) == 1
    told.write(1_004.0, "pushrail.replays", b'{"replay": "rp-1", "at": 0, "count": 1}', host="office")
    assert replays(told) == []
    told.evidence.replays.append(ReplayRun(1_003.0, 1_005.0, "rp-1", 2))
    (found,) = replays(told)
    assert found.endswith("reports 2 deliveries, and wrote 1")


def test_a_replay_begins_without_attempts() -> None:
    told, event = delivered()
    told.copy(1_004.0, event, host="office", replay="rp-1", replay_count=1)
    told.write(1_004.0, "pushrail.replays", b'{"replay": "rp-1"}', host="office")
    (found,) = replays(told)
    assert found.endswith("begins with 1 attempts")


def test_an_event_of_an_aborted_transaction_is_not_delivered() -> None:
    told, event = delivered()
    event.is_readable = False
    (found,) = arrivals(told)
    assert "of an aborted transaction" in found


def test_a_deleted_destination_gets_nothing() -> None:
    told, _ = delivered()
    told.document(1_500.0, None)
    told.call(1_520.0, told.event(1_510.0, 7))
    assert arrivals(told) == [], "its worker may not know yet"
    told.call(1_540.0, told.event(1_535.0, 8))
    assert len(arrivals(told)) == 1


def test_a_destination_gets_only_the_types_that_it_asks_for() -> None:
    told = Told()
    told.document(eventTypes=["invoice.*"])
    event = told.event(1_000.0)
    told.call(1_001.0, event)
    assert len(arrivals(told)) == 1


def test_a_retry_in_memory_keeps_to_an_earlier_filter() -> None:
    told, _ = delivered()
    event = told.event(1_003.0, 7)
    told.document(1_004.0, eventTypes=["invoice.*"])
    told.call(2_000.0, event)
    assert len(arrivals(told)) == 1
    told.refused(1_003.5, event, fault="aws", code="ThrottlingException")
    assert arrivals(told) == []


def test_a_replay_leaves_out_headers_without_a_name() -> None:
    told, _ = delivered()
    event = told.event(1_004.0, 7, headers=((NOT_UTF8, b"value"),))
    told.call(1_005.0, event)
    (found,) = arrivals(told)
    assert "no canonical event" in found
    told.copy(1_004.5, event, host="office", replay="rp-1", replay_count=1)
    assert arrivals(told) == []
