"""The report of a run: the figures of each destination, and whether the figures of all parties agree."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from pushrail_stream.sandbox.demo.customers import BY_TENANT, NOBODY, Customer, Target
from pushrail_stream.sandbox.demo.events import example_event
from pushrail_stream.sandbox.demo.observations import Event, Observations

_RULE_MATCHES: Final[Mapping[str, Callable[[Event], bool]]] = {
    "by event type": lambda event: event["eventType"].startswith("order."),
    "by payload field": lambda event: event["payload"].get("currency") == "USD",
}
"""The canonical events that each rule must match, stated without event patterns. The rule by tenant matches all."""


@dataclass(frozen=True, slots=True)
class RuleFigures:
    """A rule of a bus, and how many events it matched."""

    pattern: Mapping[str, Any]
    matched: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The figures of one destination, or of a customer without a destination."""

    customer: str
    access: str
    account: str | None = None
    destination: str | None = None
    produced: int = 0
    delivered: int = 0
    arrived: int = 0
    repeated: int = 0
    """Copies beyond the first that arrived: delivery is at least once."""
    dead: Mapping[str, int] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)
    rules: Mapping[str, RuleFigures] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """The destination, or the customer where there is none."""
        return self.destination or self.customer


@dataclass(frozen=True, slots=True)
class Percentiles:
    """A distribution in milliseconds."""

    p50: float
    p99: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Percentiles:
        """Return median and 99th percentile; zeros when there are no values."""
        ordered = sorted(values) or [0.0]
        at = [ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.99)]
        return cls(round(at[0], 1), round(at[1], 1))


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a run. It is good when ``problems`` is empty."""

    rows: Sequence[Row]
    problems: Sequence[str]
    figures: Mapping[str, Any]
    """records, not_decodable, ledger, offsets, delivering_secs, delivered_per_second, and `Percentiles` of latency_ms
    (from the record's Kafka timestamp to the bus's confirmation) and of call_ms (PutEvents calls alone)."""
    sample: Event | None
    """The example event as the customer's rule received it."""

    @property
    def ok(self) -> bool:
        """Whether everything adds up."""
        return not self.problems

    def document(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        document = asdict(self)
        figures: dict[str, Any] = document.pop("figures")
        return {"ok": self.ok} | document | figures


def make_report(seen: Observations, known_problems: Sequence[str] = ()) -> Report:
    """Compare the observations of all parties."""
    rows = [*_rows(seen)]
    delivered = [end for ends in seen.topics.ends.values() for end in ends.values() if end.get("status") == "delivered"]
    figures = {
        "records": len(seen.produced),
        "not_decodable": _undecodable(seen),
        "ledger": asdict(seen.ledger) | {"in_flight": seen.ledger.in_flight},
        "offsets": {str(partition): known._asdict() for partition, known in sorted(seen.topics.offsets.items())},
        "delivering_secs": round(seen.delivering_secs, 2),
        "delivered_per_second": round(len(delivered) / max(seen.delivering_secs, 0.001), 1),
        "latency_ms": Percentiles.of(
            [
                end.at_ms + end.get("durationMs") - seen.produced[str(end.origin)].timestamp_ms
                for end in delivered
                if str(end.origin) in seen.produced
            ]
        ),
        "call_ms": Percentiles.of([*{end.get("requestId"): end.get("durationMs") for end in delivered}.values()]),
    }
    return Report(rows, [*known_problems, *_problems(seen, rows)], figures, _sample(seen))


def _rows(seen: Observations) -> Iterator[Row]:
    for customer in seen.customers:
        for target in customer.targets:
            yield _row(seen, customer, target)
    skipped = _reasons(seen, NOBODY, "skipped")
    yield Row(customer=NOBODY, access="no destination", produced=len(_produced(seen, NOBODY)), skipped=skipped)


def _row(seen: Observations, customer: Customer, target: Target) -> Row:
    arrived = seen.arrived.get(target.id, {})
    inbox = Counter(_key(event) for event in arrived.get(BY_TENANT, ()))
    return Row(
        customer=customer.external_id,
        account=customer.account,
        destination=target.id,
        access=customer.access if target.enabled else "disabled",
        produced=len(_produced(seen, customer.external_id)),
        delivered=len(_delivered(seen, target.id)),
        arrived=len(inbox),
        repeated=inbox.total() - len(inbox),
        dead=_reasons(seen, target.id, "dead_lettered"),
        skipped=_reasons(seen, target.id, "skipped"),
        rules={
            rule: RuleFigures(pattern, len({_key(event) for event in arrived.get(rule, ())}))
            for rule, pattern in customer.onboarding(target).rules().items()
        },
    )


def _produced(seen: Observations, customer: str) -> list[str]:
    """The idempotency keys of a customer's events."""
    return [record.planned.key for record in seen.produced.values() if record.planned.customer == customer]


def _delivered(seen: Observations, place: str) -> set[str]:
    return {key for key, end in seen.topics.ends.get(place, {}).items() if end.get("status") == "delivered"}


def _reasons(seen: Observations, place: str, status: str) -> dict[str, int]:
    ends = seen.topics.ends.get(place, {}).values()
    return dict(Counter(end.get("reason") for end in ends if end.get("status") == status))


def _undecodable(seen: Observations) -> int:
    return sum(letter.reason == "undecodable" for letter in seen.topics.dead_letters)


def _key(event: Event) -> str:
    return str(event["detail"]["idempotencyKey"])


def _problems(seen: Observations, rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        yield from _row_problems(seen, row)
    yield from _arrival_problems(seen)
    yield from _dead_problems(seen, rows)
    if not seen.ledger.balances or seen.ledger.in_flight:
        yield f"the worker's ledger does not balance: {seen.ledger}"
    for partition, (committed, end) in sorted(seen.topics.offsets.items()):
        if committed != end:
            yield f"partition {partition}: committed {committed}, but it ends at {end}"


def _row_problems(seen: Observations, row: Row) -> Iterator[str]:
    dead, skipped = sum(row.dead.values()), sum(row.skipped.values())
    if row.produced != row.delivered + dead + skipped:
        missing = sorted(set(_produced(seen, row.customer)) - seen.topics.ends.get(row.place, {}).keys())
        without_end = f"; without an end: {len(missing)}, the first {missing[0]}" if missing else ""
        ended = f"{row.delivered} delivered + {dead} dead + {skipped} skipped"
        yield f"{row.place}: produced {row.produced} is not {ended}{without_end}"
    if row.access == "granted" and set(row.dead) - {"oversize"}:
        yield f"{row.place}: has access, yet dead letters: {row.dead}"
    if row.access != "granted" and row.delivered:
        yield f"{row.place}: {row.delivered} delivered without access ({row.access})"


def _arrival_problems(seen: Observations) -> Iterator[str]:
    """Compare the inboxes with the confirmed deliveries and with the produced events."""
    produced = {
        record.planned.key: json.loads(record.planned.value)
        for record in seen.produced.values()
        if record.planned.customer is not None
    }
    for place, inboxes in seen.arrived.items():
        delivered = _delivered(seen, place)
        inbox = inboxes.get(BY_TENANT, ())
        arrived = {_key(event) for event in inbox}
        if delivered != arrived:
            lost, extra = len(delivered - arrived), len(arrived - delivered)
            yield f"{place}: {lost} confirmed but not arrived, {extra} arrived but not confirmed"
        altered = [_key(event) for event in inbox if not _is_faithful(event, produced.get(_key(event)))]
        if altered:
            yield f"{place}: {len(altered)} arrived altered, the first {altered[0]}"
        for rule, matches in _RULE_MATCHES.items():
            wanted = {key for key in arrived if key in produced and matches(produced[key])}
            matched = {_key(event) for event in inboxes.get(rule, ())}
            if matched != wanted:
                yield f"{place}: the rule {rule} matched {len(matched)} events, not the {len(wanted)} it describes"


def _is_faithful(event: Event, produced: Event | None) -> bool:
    """Whether the event that arrived is the produced one, in the fields that the contract promises."""
    if produced is None:
        return False
    envelope = (event["detail-type"], event["resources"])
    promised = (produced["eventType"], [produced["customerExternalId"], produced["idempotencyKey"]])
    return event["detail"] == produced and envelope == promised


def _dead_problems(seen: Observations, rows: Sequence[Row]) -> Iterator[str]:
    """Compare the dead-letter topic with the delivery log and with the produced records."""
    reported = {(row.destination, reason): number for row in rows for reason, number in row.dead.items()}
    found = dict(
        Counter((letter.destination, letter.reason) for letter in seen.topics.dead_letters if letter.destination)
    )
    if reported != found:
        yield f"dead letters: reported {reported}, on the topic {found}"
    undecodable = _undecodable(seen)
    not_events = sum(record.planned.customer is None for record in seen.produced.values())
    if undecodable != not_events:
        yield f"{not_events} records are not events, {undecodable} are on the dead-letter topic"
    values: dict[str, bytes] = {origin: record.planned.value for origin, record in seen.produced.items()}
    changed = sum(values.get(str(letter.origin)) != letter.record.value for letter in seen.topics.dead_letters)
    if changed:
        yield f"dead letters: {changed} are not the records that were produced"


def _sample(seen: Observations) -> Event | None:
    """Return the example event as its customer got it; None when it did not arrive."""
    key = json.loads(example_event())["idempotencyKey"]
    inboxes = (arrived.get(BY_TENANT, ()) for arrived in seen.arrived.values())
    return next((event for inbox in inboxes for event in inbox if _key(event) == key), None)
