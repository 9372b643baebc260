"""Capacity planning: partitions, workers, memory, AWS's quotas and the price, from the load and the settings.

Pure arithmetic: neither Kafka nor AWS is asked. Every figure names its formula and where its numbers come from: the
load that was given, a setting, a measurement of ours, or a page of AWS's documentation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from pushrail_stream.core.units import UNIT_BYTES, units_of
from pushrail_stream.core.window import USUAL
from pushrail_stream.core.worker_calls import MAX_CALLS
from pushrail_stream.kafka.topics import topics_named
from pushrail_stream.pipeline.policy import BufferLimits
from pushrail_stream.settings.eventbridge import CLASSIC
from pushrail_stream.settings.model import Settings

CALL_US: Final = 190.0
EVENT_US: Final = 45.0
"""CPU time of a worker for a call, and for an event in it, in microseconds. Together within 12 % of the row `fill` of
`make bench` (222.7, 117.7 and 57.7 us per event at 1, 3 and 10 entries a call): 2026-11, CPython 3.11, two shared
cores, 50 customers, events of 0.8 KB, TLS, a bus that answers at once."""
BASE_MIB: Final = 100
DESTINATION_KIB: Final = 29
"""Memory of a worker whose destinations have signed in, and of each destination: the row `destinations` of `make bench`
with 10 and 1,000 destinations, on the same machine."""
MAX_LOAD: Final = 0.6
"""Share of a core that a worker should use at the peak: the rest takes a neighbour's partitions over, and backlogs."""
PARTITIONS_PER_WORKER: Final = 4
"""As `topics create` advises: partitions are shared evenly also when one worker is missing."""
_ROW_BYTES: Final = 800
"""Bytes of an attempt record with names of usual length, before compression."""
_MARGIN_BYTES: Final = 64
"""The bytes that an entry has beside its event: type, source, customer and key stand there once more."""
_STS_QUOTA: Final = 600
"""AssumeRole calls a second of an account and region (IAM User Guide, "IAM and AWS STS quotas")."""
_SESSION_SECS: Final = 3600 * 0.6
"""Seconds after which a session is renewed at the soonest: see `eventbridge/credentials.py`."""
_QUOTAS: Final[Mapping[str, int]] = {
    "us-east-1": 10_000, "us-west-2": 10_000, "eu-west-1": 10_000, "us-east-2": 2_400, "eu-central-1": 2_400,
}  # fmt: skip
_LEAST_QUOTA: Final = 400
"""PutEvents calls a second of an account by region, and the least of all regions (EventBridge User Guide, "Amazon
EventBridge quotas")."""
_MONTH_SECS: Final = 30 * 86_400
_OTHER_FILES: Final = 200
_GIB: Final = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The load to plan for, and prices. Each field is an option of the command."""

    events: float
    """Events a second, on average."""
    customers: int
    size: int = 1_000
    """Bytes of an event."""
    fan_out: float = 1.0
    """Destinations that get an event, on average."""
    peak: float = 3.0
    """The highest rate, as a multiple of the average."""
    largest: float = 10.0
    """Share of the largest customer, in percent."""
    round_trip_ms: float = 50.0
    """Time of one call to the largest customer's bus."""
    region: str = "us-east-1"
    """Region of the largest customer's bus."""
    replication: int = 3
    million_usd: float = 1.0
    """Price of a million units of PutEvents."""
    vcpu_hour_usd: float = 0.04048
    gib_hour_usd: float = 0.004445


class Figure(NamedTuple):
    """One number of a plan."""

    group: str
    name: str
    value: float
    unit: str
    source: str
    """The formula, with the origin of its numbers."""
    warning: str = ""
    """Why this number is a problem; empty when it is none."""


def plan_capacity(load: Load, settings: Settings) -> Sequence[Figure]:
    """All figures, in the order in which they follow from each other."""
    return list(_Plan(load, settings).figures())


class _Plan:
    """The quantities that several figures need."""

    def __init__(self, load: Load, settings: Settings) -> None:
        self.load, self.settings = load, settings
        self.peak_events = load.events * load.peak
        self.deliveries = self.peak_events * load.fan_out
        self.destinations = math.ceil(load.customers * max(1.0, load.fan_out))
        self.entry_bytes = load.size + _MARGIN_BYTES
        delivery = settings.delivery
        self.most = max(
            1, min(delivery.max_entries, CLASSIC.limits.max_entries, delivery.max_request_bytes // self.entry_bytes)
        )
        self.entries = self._entries(self.deliveries / self.destinations)
        self.event_us = CALL_US / self.entries + EVENT_US
        self.workers = max(2, math.ceil(self.deliveries * self.event_us / 1e6 / MAX_LOAD))
        self.memory_mib = math.ceil(
            BASE_MIB + self._worker_destinations * DESTINATION_KIB / 1024 + 2 * settings.limits.max_buffered_mib
        )

    @property
    def _worker_destinations(self) -> int:
        """The destinations of one worker while another one is missing."""
        return math.ceil(self.destinations / (self.workers - 1))

    def _entries(self, per_second: float) -> float:
        """Entries of a call to a destination that gets this number of deliveries a second."""
        return min(float(self.most), 1 + per_second * self.settings.delivery.flush_ms / 1000)

    def figures(self) -> Iterator[Figure]:
        yield from self._traffic()
        yield from self._workers()
        yield from self._kafka()
        yield from self._largest()
        yield from self._sign_ins()
        yield from self._price()

    def _traffic(self) -> Iterator[Figure]:
        load, delivery = self.load, self.settings.delivery
        yield Figure("traffic", "events at the peak", self.peak_events, "/s", "--events x --peak")
        yield Figure("traffic", "deliveries at the peak", self.deliveries, "/s", "events at the peak x --fan-out")
        yield Figure("traffic", "destinations", self.destinations, "", "--customers x --fan-out, at least 1 each")
        is_too_large = self.entry_bytes > delivery.max_request_bytes
        yield Figure(
            "traffic", "entries per call", self.entries, "",
            f"1 + deliveries of an average destination within delivery.flush_ms ({delivery.flush_ms}), at most "
            f"{self.most}: delivery.max_entries, AWS's {CLASSIC.limits.max_entries}, delivery.max_request_bytes",
            "an event of this size is dead-lettered as oversize (delivery.max_request_bytes)" if is_too_large else "",
        )  # fmt: skip
        yield Figure(
            "traffic", "calls at the peak", self.deliveries / self.entries, "/s", "deliveries / entries per call"
        )
        yield Figure("traffic", "units per event", units_of(load.size), "", f"--size / {UNIT_BYTES} bytes, rounded up")

    def _workers(self) -> Iterator[Figure]:
        measured = f"measured: {CALL_US:g} us a call + {EVENT_US:g} us an event (`make bench`, row fill, 2026-11)"
        yield Figure("workers", "CPU per delivery", self.event_us, "us", f"call / entries + event; {measured}")
        cores = self.deliveries * self.event_us / 1e6
        yield Figure("workers", "CPU at the peak", cores, "cores", "deliveries x CPU per delivery")
        yield Figure(
            "workers",
            "workers",
            self.workers,
            "",
            f"CPU at the peak / {MAX_LOAD:g} of a core, at least 2, so that one may be missing; one core each",
        )
        yield Figure(
            "workers", "memory per worker", self.memory_mib, "MiB",
            f"measured: {BASE_MIB} MiB + {DESTINATION_KIB} KiB a destination (`make bench`, row destinations) + twice "
            f"limits.max_buffered_mib ({self.settings.limits.max_buffered_mib}): new events, and backlogs",
        )  # fmt: skip
        shared = MAX_CALLS if self.settings.delivery.max_in_flight > USUAL else 0
        files = self._worker_destinations * min(USUAL, self.settings.delivery.max_in_flight) + shared + _OTHER_FILES
        yield Figure(
            "workers",
            "open files per worker",
            files,
            "",
            f"{USUAL} calls a destination (delivery.max_in_flight) + {shared} shared + {_OTHER_FILES}; `ulimit -n`",
        )

    def _kafka(self) -> Iterator[Figure]:
        load, hold_secs = self.load, self.settings.delivery.hold_secs
        limits = BufferLimits(1, 1)  # of a partition, which are no settings
        span, span_bytes = limits.partition_max_offsets, limits.partition_max_bytes
        needs = {
            f"{PARTITIONS_PER_WORKER} a worker": PARTITIONS_PER_WORKER * self.workers,
            f"events of delivery.hold_secs ({hold_secs:g}) within {span:,} offsets": (
                self.peak_events * hold_secs / span
            ),
            f"their bytes within {span_bytes // 2**20} MiB": self.peak_events * load.size * hold_secs / span_bytes,
        }
        yield Figure("kafka", "partitions", math.ceil(max(needs.values())), "", f"the most of: {'; '.join(needs)}")
        events, attempts = self.settings.topics.events, self.settings.topics.attempts
        for topic, rate, size in (
            (events, load.events, load.size),
            (attempts, load.events * load.fan_out, _ROW_BYTES),
        ):
            [plan] = topics_named(self.settings, topic)
            days = int(plan.config["retention.ms"]) / 86_400_000
            yield Figure(
                "kafka", f"disk of {topic}", rate * size * days * 86_400 * load.replication / _GIB, "GiB",
                f"{size} bytes x {rate:g}/s x retention of {days:g} days (`topics create`) x --replication; before "
                "compression",
            )  # fmt: skip

    def _largest(self) -> Iterator[Figure]:
        load, delivery = self.load, self.settings.delivery
        deliveries = self.deliveries * load.largest / 100
        entries = self._entries(deliveries / max(1.0, load.fan_out))
        calls = deliveries / entries
        cores = deliveries * (CALL_US / entries + EVENT_US) / 1e6
        yield Figure(
            "largest customer", "CPU of its worker", cores, "cores",
            "as above, for --largest of the deliveries: a customer's events are in one partition, and so in one worker",
            "one worker cannot deliver this customer's events" if cores > 1 else "",
        )  # fmt: skip
        in_flight = calls * load.round_trip_ms / 1000 / max(1.0, load.fan_out)
        yield Figure(
            "largest customer", "calls in flight", in_flight, "",
            f"calls x --round-trip-ms, each destination; at most delivery.max_in_flight ({delivery.max_in_flight})",
            "more than delivery.max_in_flight: raise it, or limits.maxInFlight of the document"
            if in_flight > delivery.max_in_flight
            else "",
        )  # fmt: skip
        quota = _QUOTAS.get(load.region, _LEAST_QUOTA)
        known = "" if load.region in _QUOTAS else "the least of all regions; "
        yield Figure(
            "largest customer", "PutEvents calls", calls, "/s",
            f"deliveries / entries; quota of an account in {load.region}: {quota:,} ({known}EventBridge User Guide, "
            '"Amazon EventBridge quotas")',
            f"more than the quota of {quota:,}: the customer has to raise it" if calls > quota else "",
        )  # fmt: skip

    def _sign_ins(self) -> Iterator[Figure]:
        limit = self.settings.sts.max_calls_per_second
        steady = self.destinations / _SESSION_SECS
        quota = f'quota of our account: {_STS_QUOTA} (IAM User Guide, "IAM and AWS STS quotas")'
        yield Figure(
            "sign-ins", "AssumeRole calls", steady, "/s",
            f"destinations / {_SESSION_SECS:,.0f} s, the soonest renewal of a session; {quota}",
            f"more than the quota of {_STS_QUOTA}" if steady > _STS_QUOTA else "",
        )  # fmt: skip
        rate = min(float(_STS_QUOTA), self.workers * limit)
        advice = math.floor(_STS_QUOTA / self.workers)
        yield Figure(
            "sign-ins", "first sign-in of all", self.destinations / rate, "s",
            f"destinations / (workers x sts.max_calls_per_second ({limit:g}), at most {_STS_QUOTA})",
            f"together the workers may exceed {_STS_QUOTA} a second: set sts.max_calls_per_second to {advice}"
            if self.workers * limit > _STS_QUOTA
            else "",
        )  # fmt: skip

    def _price(self) -> Iterator[Figure]:
        load = self.load
        units = load.events * load.fan_out * _MONTH_SECS * units_of(load.size)
        yield Figure(
            "price", "PutEvents, all customers", units / 1e6 * load.million_usd, "USD/month",
            f"{units / 1e6:,.1f} million units in 30 days x --million-usd ({load.million_usd:g}; Amazon EventBridge "
            "pricing); AWS bills the customers' accounts",
        )  # fmt: skip
        hours = self.workers * _MONTH_SECS / 3600
        gib = self.memory_mib / 1024
        yield Figure(
            "price", "workers", hours * (load.vcpu_hour_usd + gib * load.gib_hour_usd), "USD/month",
            f"workers x 720 h x (1 vCPU at --vcpu-hour-usd {load.vcpu_hour_usd:g} + memory at --gib-hour-usd "
            f"{load.gib_hour_usd:g}; AWS Fargate pricing, Linux on x86, us-east-1)",
        )  # fmt: skip
