"""The accounts of a run: who was sent what, what became of it, and whether everybody's figures agree."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pushrail_stream.core.ledger import Ledger
from pushrail_stream.core.record import Origin
from pushrail_stream.sandbox.demo.customers import NOBODY, Customer, Target
from pushrail_stream.sandbox.demo.events import example_event
from pushrail_stream.sandbox.demo.records import DeadRecord, Offsets, Produced
from pushrail_stream.sandbox.demo.tally import Kind, Tally


@dataclass(frozen=True, slots=True)
class Findings:
    """What each party saw."""

    customers: Sequence[Customer]
    produced: Mapping[Origin, Produced]
    tally: Tally
    ledger: Ledger
    received: Mapping[str, Sequence[Mapping[str, Any]]]
    """Events in the customers' queues, by destination id."""
    dead_records: Sequence[DeadRecord]
    offsets: Mapping[int, Offsets]
    delivering_secs: float


@dataclass(frozen=True, slots=True)
class Row:
    """One destination's account (without a destination: the customer's)."""

    customer: str
    account: str | None
    destination: str | None
    access: str
    produced: int
    delivered: int
    arrived: int
    repeated: int
    """Copies beyond the first in the customer's queue: delivery is at least once."""
    dead: Mapping[str, int]
    skipped: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Spread:
    """A distribution in milliseconds."""

    p50: float
    p99: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Median and 99th percentile; zeros when there are no values."""
        ordered = sorted(values) or [0.0]
        at = [ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.99)]
        return cls(round(at[0], 1), round(at[1], 1))


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a run. It is good when ``problems`` is empty."""

    rows: Sequence[Row]
    problems: Sequence[str]
    records: int
    not_decodable: int
    ledger: Mapping[str, int]
    offsets: Mapping[int, Offsets]
    delivering_secs: float
    delivered_per_second: float
    latency_ms: Spread
    """From the record's Kafka timestamp to AWS's confirmation."""
    call_ms: Spread
    """PutEvents calls alone."""
    sample: Mapping[str, Any] | None
    """The example event as the customer's queue had it."""

    @property
    def ok(self) -> bool:
        """Whether everything adds up."""
        return not self.problems

    def document(self) -> dict[str, Any]:
        """The report for machines."""
        offsets = {str(partition): known._asdict() for partition, known in self.offsets.items()}
        return {"ok": self.ok} | asdict(self) | {"offsets": offsets}


def make_report(findings: Findings, also: Sequence[str] = ()) -> Report:
    """Compare what everybody saw; ``also`` are problems known already."""
    rows = [*_rows(findings)]
    timestamps = {origin: produced.timestamp_ms for origin, produced in findings.produced.items()}
    tally = findings.tally
    latencies = [at - timestamps[origin] for origin, at in tally.acknowledged if origin in timestamps]
    return Report(
        rows=rows,
        problems=[*also, *_problems(findings, rows)],
        records=len(findings.produced),
        not_decodable=len(tally.broken),
        ledger=asdict(findings.ledger),
        offsets=findings.offsets,
        delivering_secs=round(findings.delivering_secs, 2),
        delivered_per_second=round(len(tally.acknowledged) / max(findings.delivering_secs, 0.001), 1),
        latency_ms=Spread.of(latencies),
        call_ms=Spread.of(tally.call_ms),
        sample=_sample(findings),
    )


def _rows(findings: Findings) -> Iterator[Row]:
    for customer in findings.customers:
        for target in customer.targets:
            yield _row(findings, customer.external_id, target.id, customer.account, _access(customer, target))
    yield _row(findings, NOBODY, None, None, "no destination")


def _access(customer: Customer, target: Target) -> str:
    return customer.access if target.enabled else "disabled"


def _row(findings: Findings, customer: str, destination: str | None, account: str | None, access: str) -> Row:
    place = destination or customer
    arrived = Counter(_key(event) for event in findings.received.get(place, ()))
    return Row(
        customer=customer,
        account=account,
        destination=destination,
        access=access,
        produced=sum(record.planned.customer == customer for record in findings.produced.values()),
        delivered=len(_keys(findings.tally, place, "delivered")),
        arrived=len(arrived),
        repeated=arrived.total() - len(arrived),
        dead=_reasons(findings.tally, place, "dead"),
        skipped=_reasons(findings.tally, place, "skipped"),
    )


def _keys(tally: Tally, place: str, kind: Kind) -> set[str]:
    return {key for (where, key), fate in tally.fates.items() if where == place and fate.kind == kind}


def _reasons(tally: Tally, place: str, kind: Kind) -> dict[str, int]:
    found = (fate.reason for (where, _), fate in tally.fates.items() if where == place and fate.kind == kind)
    return dict(Counter(found))


def _key(event: Mapping[str, Any]) -> str:
    return str(event["detail"]["idempotencyKey"])


def _problems(findings: Findings, rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        yield from _row_problems(findings, row)
    yield from _arrival_problems(findings)
    yield from _dead_problems(findings)
    ledger = findings.ledger
    if not ledger.balances or ledger.in_flight:
        yield f"the worker's ledger does not balance: {ledger}"
    for partition, (committed, end) in sorted(findings.offsets.items()):
        if committed != end:
            yield f"partition {partition}: committed {committed}, but it ends at {end}"


def _row_problems(findings: Findings, row: Row) -> Iterator[str]:
    place = row.destination or row.customer
    dead, skipped = sum(row.dead.values()), sum(row.skipped.values())
    if row.produced != row.delivered + dead + skipped:
        missing = [delivery.key for delivery in findings.tally.missing() if delivery.place == place]
        told = f"; without an end: {len(missing)}, the first {missing[0]}" if missing else ""
        ended = f"{row.delivered} delivered + {dead} dead + {skipped} skipped"
        yield f"{place}: produced {row.produced} is not {ended}{told}"
    if row.access == "granted" and set(row.dead) - {"oversize"}:
        yield f"{place}: has access, yet dead letters: {row.dead}"
    if row.access != "granted" and row.delivered:
        yield f"{place}: {row.delivered} delivered without access ({row.access})"


def _arrival_problems(findings: Findings) -> Iterator[str]:
    """What the queues hold against what AWS confirmed, and against what was produced."""
    produced = {
        record.planned.key: json.loads(record.planned.value)
        for record in findings.produced.values()
        if record.planned.customer is not None
    }
    for place, events in findings.received.items():
        delivered, arrived = _keys(findings.tally, place, "delivered"), {_key(event) for event in events}
        if delivered != arrived:
            lost, extra = len(delivered - arrived), len(arrived - delivered)
            yield f"{place}: {lost} confirmed but not in the queue, {extra} in the queue but not confirmed"
        altered = [_key(event) for event in events if not _is_faithful(event, produced.get(_key(event)))]
        if altered:
            yield f"{place}: {len(altered)} arrived altered, the first {altered[0]}"


def _is_faithful(event: Mapping[str, Any], produced: Mapping[str, Any] | None) -> bool:
    """Whether the queue's event says what was produced, in the words of the contract."""
    if produced is None:
        return False
    envelope = (event["detail-type"], event["resources"])
    promised = (produced["eventType"], [produced["customerExternalId"], produced["idempotencyKey"]])
    return event["detail"] == produced and envelope == promised


def _dead_problems(findings: Findings) -> Iterator[str]:
    """What lies on the DLQ topic against what the worker reported and what was produced."""
    reported = Counter(
        (delivery.place, fate.reason) for delivery, fate in findings.tally.fates.items() if fate.kind == "dead"
    )
    found = Counter((record.destination, record.reason) for record in findings.dead_records if record.destination)
    if reported != found:
        yield f"dead letters: reported {dict(reported)}, on the topic {dict(found)}"
    broken = sum(record.reason == "undecodable" for record in findings.dead_records)
    produced_broken = sum(record.planned.customer is None for record in findings.produced.values())
    if broken != produced_broken:
        yield f"{produced_broken} records are no events, {broken} are on the dead-letter topic"
    values = {str(origin): record.planned.value for origin, record in findings.produced.items()}
    changed = sum(values.get(record.origin) != record.value for record in findings.dead_records)
    if changed:
        yield f"dead letters: {changed} are not the records that were produced"


def _sample(findings: Findings) -> Mapping[str, Any] | None:
    """The example event as its customer got it; None when it did not arrive."""
    key = json.loads(example_event())["idempotencyKey"]
    return next((event for events in findings.received.values() for event in events if _key(event) == key), None)
