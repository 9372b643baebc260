"""The report of a run: figures that agree are no problem, and every disagreement is named."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from pushrail_stream.core.ledger import Ledger
from pushrail_stream.core.record import Origin
from pushrail_stream.sandbox.demo.customers import Access, Customer, Target
from pushrail_stream.sandbox.demo.events import Planned
from pushrail_stream.sandbox.demo.kafka import DeadRecord, KafkaState, Offsets, Produced
from pushrail_stream.sandbox.demo.report import Observations, Percentiles, make_report
from pushrail_stream.sandbox.demo.tally import Delivery, Ending, Tally

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


def findings() -> Observations:
    """Three events: two delivered, one dead for its size."""
    tally = Tally()
    tally.endings = {
        Delivery(PLACE, "a"): Ending("delivered"),
        Delivery(PLACE, "b"): Ending("delivered"),
        Delivery(PLACE, "c"): Ending("dead", "oversize"),
    }
    tally.acknowledged = [(Origin("events", 0, 0), 1_150.0), (Origin("events", 0, 1), 1_250.0)]
    produced = {Origin("events", 0, n): Produced(planned(key), 1_000) for n, key in enumerate("abc")}
    dead = DeadRecord(planned("c").value, "oversize", PLACE, "events/0/2")
    ledger = Ledger(begun=3, delivered=2, dead_lettered=1)
    kafka = KafkaState(produced, [dead], {0: Offsets(3, 3)})
    return Observations([customer()], kafka, tally, ledger, queues(arrived("a"), arrived("b")), 2.0)


def queues(*inbox: dict[str, Any], orders: str = "ab", dollars: str = "a") -> dict[str, Any]:
    """The destination's queues: its inbox, and the keys of the events that the other rules let through."""
    return {
        PLACE: {
            "by tenant": list(inbox),
            "by event type": [arrived(key) for key in orders],
            "by payload field": [arrived(key) for key in dollars],
        }
    }


def problems(found: Observations) -> list[str]:
    return list(make_report(found).problems)


def with_kafka(found: Observations, **changed: Any) -> Observations:
    return replace(found, kafka=found.kafka._replace(**changed))


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
    found = findings()
    del found.tally.endings[Delivery(PLACE, "b")]
    found.tally.expect([Delivery(PLACE, "b")])
    assert any("dst_1: produced 3" in problem and "the first b" in problem for problem in problems(found))


def test_an_event_missing_in_the_queue_is_bad() -> None:
    found = replace(findings(), arrived=queues(arrived("a"), orders="a"))
    assert problems(found) == ["dst_1: 1 confirmed but not in the queue, 0 in the queue but not confirmed"]


def test_a_copy_in_the_queue_is_no_problem() -> None:
    found = replace(findings(), arrived=queues(arrived("a"), arrived("b"), arrived("a"), dollars="aa"))
    report = make_report(found)
    assert report.ok
    assert (report.rows[0].arrived, report.rows[0].repeated) == (2, 1)


def test_an_altered_event_is_a_problem() -> None:
    other_payload = arrived("b")["detail"] | {"payload": {}}
    for changed in ({"detail": other_payload}, {"resources": [CUSTOMER]}, {"detail-type": "other"}):
        found = replace(findings(), arrived=queues(arrived("a"), arrived("b", **changed)))
        assert problems(found) == ["dst_1: 1 arrived altered, the first b"]


def test_a_wrong_rule_is_a_problem() -> None:
    few, many = (replace(findings(), arrived=queues(arrived("a"), arrived("b"), dollars=keys)) for keys in ("", "ab"))
    assert problems(few) == ["dst_1: the rule by payload field matched 0 events, not the 1 it describes"]
    assert problems(many) == ["dst_1: the rule by payload field matched 2 events, not the 1 it describes"]
    rules = make_report(findings()).rows[0].rules
    assert {rule: figures.matched for rule, figures in rules.items()} == {
        "by tenant": 2, "by event type": 2, "by payload field": 1
    }  # fmt: skip
    assert rules["by payload field"].pattern["detail"] == {"payload": {"currency": ["USD"]}}


def test_a_missing_dead_letter_is_a_problem() -> None:
    assert any("dead letters: reported" in problem for problem in problems(with_kafka(findings(), dead_records=[])))


def test_a_changed_dead_letter_is_a_problem() -> None:
    found = findings()
    changed = [found.kafka.dead_records[0]._replace(value=b"{}")]
    assert problems(with_kafka(found, dead_records=changed)) == [
        "dead letters: 1 are not the records that were produced"
    ]  # fmt: skip


def test_a_ledger_that_does_not_balance_is_a_problem() -> None:
    assert any("ledger" in problem for problem in problems(replace(findings(), ledger=Ledger(begun=3, delivered=1))))


def test_an_uncommitted_end_is_a_problem() -> None:
    found = with_kafka(findings(), offsets={0: Offsets(2, 3)})
    assert problems(found) == ["partition 0: committed 2, but it ends at 3"]


def test_delivering_without_access_is_a_problem() -> None:
    found = replace(findings(), customers=[customer("wrong external ID")])
    assert problems(found) == ["dst_1: 2 delivered without access (wrong external ID)"]
