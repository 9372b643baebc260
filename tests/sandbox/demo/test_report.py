"""The report of a run: figures that agree are no problem, and every disagreement is named."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from pushrail_stream.core.headers import DeliveryHeaders, encode_headers
from pushrail_stream.core.ledger import Ledger
from pushrail_stream.core.record import Origin, Record
from pushrail_stream.core.text import format_rfc3339
from pushrail_stream.operations.attempts import Attempt, read_attempt
from pushrail_stream.operations.dead_letters import DeadLetterRecord, read_dead_letter
from pushrail_stream.sandbox.demo.customers import Access, Customer, Target
from pushrail_stream.sandbox.demo.events import Planned
from pushrail_stream.sandbox.demo.observations import Observations, Offsets, Topics, ends_of
from pushrail_stream.sandbox.demo.producer import Produced
from pushrail_stream.sandbox.demo.report import Percentiles, make_report

PLACE, CUSTOMER = "dst_1", "acct_1"


def customer(access: Access = "granted") -> Customer:
    return Customer(CUSTOMER, "111111111111", "ext-1", (Target(PLACE),), 1, access)


def planned(key: str) -> Planned:
    event = {"eventType": "order.paid", "customerExternalId": CUSTOMER, "idempotencyKey": key,
             "payload": {"n": "é", "currency": "USD" if key == "a" else "EUR"}}  # fmt: skip
    return Planned(json.dumps(event).encode(), CUSTOMER.encode(), CUSTOMER, key)


def arrived(key: str, **changed: Any) -> dict[str, Any]:
    event = {"detail-type": "order.paid", "resources": [CUSTOMER, key], "detail": json.loads(planned(key).value)}
    return event | changed


def ended(key: str, status: str, call_at_ms: int = 1_000, **changes: Any) -> Attempt:
    """An attempt record of a call that took 100 ms."""
    said = {
        "at": format_rfc3339(call_at_ms),
        "durationMs": 100.0,
        "requestId": f"request-{key}",
        "destinationId": PLACE,
        "customerExternalId": CUSTOMER,
        "idempotencyKey": key,
        "status": status,
        "origin": {"topic": "events", "partition": 0, "offset": "abc".index(key)},
    }
    attempt = read_attempt(json.dumps(said | changes).encode())
    assert attempt is not None
    return attempt


ENDS = (
    ended("a", "retrying", reason="throttled"),
    ended("a", "delivered", call_at_ms=1_050),
    ended("b", "delivered", call_at_ms=1_150),
    ended("c", "dead_lettered", reason="oversize", durationMs=None),
)


def dead_letter(value: bytes) -> DeadLetterRecord:
    state = DeliveryHeaders(
        origin=Origin("events", 0, 2), attempts=0, reason="oversize", failed_at_ms=1_000, destination=PLACE
    )
    return read_dead_letter(Record("dlq", 0, 0, b"", value, encode_headers(state, ()), 1_000), "acme")


TOPICS = Topics(ends=ends_of(ENDS), dead_letters=[dead_letter(planned("c").value)], offsets={0: Offsets(3, 3)})


def findings() -> Observations:
    """Three events: two delivered, one dead for its size."""
    return Observations(
        customers=[customer()],
        produced={f"events/0/{n}": Produced(planned(key), 1_000) for n, key in enumerate("abc")},
        topics=TOPICS,
        ledger=Ledger(begun=3, delivered=2, dead_lettered=1),
        arrived=inboxes(arrived("a"), arrived("b")),
        delivering_secs=2.0,
    )


def inboxes(*inbox: dict[str, Any], orders: str = "ab", dollars: str = "a") -> dict[str, Any]:
    """The destination's inboxes: all its events, and the keys of the events that the other rules let through."""
    return {
        PLACE: {
            "by tenant": list(inbox),
            "by event type": [arrived(key) for key in orders],
            "by payload field": [arrived(key) for key in dollars],
        }
    }


def problems(found: Observations) -> list[str]:
    return list(make_report(found).problems)


def test_figures_that_agree_make_a_good_report() -> None:
    report = make_report(findings())
    assert report.ok
    row = report.rows[0]
    assert (row.produced, row.delivered, row.arrived, row.dead) == (3, 2, 2, {"oversize": 1})
    assert report.figures["latency_ms"] == Percentiles(250.0, 250.0)
    assert report.figures["delivered_per_second"] == 1.0
    assert report.document()["offsets"] == {"0": {"committed": 3, "end": 3}}


def test_a_known_problem_makes_the_report_bad() -> None:
    assert not make_report(findings(), ["something"]).ok


def test_an_event_without_an_end_is_named() -> None:
    found = replace(
        findings(), topics=TOPICS._replace(ends=ends_of(end for end in ENDS if end.get("idempotencyKey") != "b"))
    )
    assert any("dst_1: produced 3" in problem and "the first b" in problem for problem in problems(found))


def test_an_event_missing_in_the_inbox_is_bad() -> None:
    found = replace(findings(), arrived=inboxes(arrived("a"), orders="a"))
    assert problems(found) == ["dst_1: 1 confirmed but not arrived, 0 arrived but not confirmed"]


def test_a_copy_in_the_inbox_is_no_problem() -> None:
    found = replace(findings(), arrived=inboxes(arrived("a"), arrived("b"), arrived("a"), dollars="aa"))
    report = make_report(found)
    assert report.ok
    assert (report.rows[0].arrived, report.rows[0].repeated) == (2, 1)


def test_an_altered_event_is_a_problem() -> None:
    other_payload = arrived("b")["detail"] | {"payload": {}}
    for changed in ({"detail": other_payload}, {"resources": [CUSTOMER]}, {"detail-type": "other"}):
        found = replace(findings(), arrived=inboxes(arrived("a"), arrived("b", **changed)))
        assert problems(found) == ["dst_1: 1 arrived altered, the first b"]


def test_a_wrong_rule_is_a_problem() -> None:
    few, many = (replace(findings(), arrived=inboxes(arrived("a"), arrived("b"), dollars=keys)) for keys in ("", "ab"))
    assert problems(few) == ["dst_1: the rule by payload field matched 0 events, not the 1 it describes"]
    assert problems(many) == ["dst_1: the rule by payload field matched 2 events, not the 1 it describes"]
    rules = make_report(findings()).rows[0].rules
    assert {rule: figures.matched for rule, figures in rules.items()} == {
        "by tenant": 2, "by event type": 2, "by payload field": 1
    }  # fmt: skip
    assert rules["by payload field"].pattern["detail"] == {"payload": {"currency": ["USD"]}}


def test_a_missing_dead_letter_is_a_problem() -> None:
    assert any(
        "dead letters: reported" in problem
        for problem in problems(replace(findings(), topics=TOPICS._replace(dead_letters=[])))
    )


def test_a_changed_dead_letter_is_a_problem() -> None:
    found = replace(findings(), topics=TOPICS._replace(dead_letters=[dead_letter(b"{}")]))
    assert problems(found) == ["dead letters: 1 are not the records that were produced"]


def test_a_ledger_that_does_not_balance_is_a_problem() -> None:
    assert any("ledger" in problem for problem in problems(replace(findings(), ledger=Ledger(begun=3, delivered=1))))


def test_an_uncommitted_end_is_a_problem() -> None:
    found = replace(findings(), topics=TOPICS._replace(offsets={0: Offsets(2, 3)}))
    assert problems(found) == ["partition 0: committed 2, but it ends at 3"]


def test_delivering_without_access_is_a_problem() -> None:
    found = replace(findings(), customers=[customer("wrong external ID")])
    assert problems(found) == ["dst_1: 2 delivered without access (wrong external ID)"]
