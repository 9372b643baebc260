"""The status page: the state of a worker, for people. It shows no secrets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final, NamedTuple

from pushrail_stream.core.bus_status import explain
from pushrail_stream.core.destination_state import DestinationState
from pushrail_stream.core.ledger import Ledger
from pushrail_stream.core.signals import BusMissing
from pushrail_stream.core.text import format_age, format_span
from pushrail_stream.observe.incidents import Incident, RecentIncidents
from pushrail_stream.observe.metrics import Metrics
from pushrail_stream.observe.pages import page, section, table, time
from pushrail_stream.observe.readiness import Readiness
from pushrail_stream.observe.worker_record import (
    MAX_DESTINATIONS,
    WorkerIdentity,
    WorkerRecord,
    installed_version,
    is_lost,
)
from pushrail_stream.pipeline.stats import BacklogStats, DestinationStats, PartitionStats, StatsSource
from pushrail_stream.ports.fleet import FleetLink
from pushrail_stream.ports.pipeline import Observer

LANES: Final = 50
"""Most lanes that are shown. Those with a problem come first."""
_TONES: Final[Mapping[DestinationState, str]] = {
    "ok": "ok", "retrying": "warn", "slowed": "warn", "blocked": "bad", "suspended": "bad", "gone": "bad",
}  # fmt: skip
_REFRESH_SECS: Final = 5
_NO_LANES: Final = "None since the start. The delivery log knows of earlier ones: destinations list --state"
_ALL_ADDRESSES: Final = ("0.0.0.0", "::", "[::]")


class Display(NamedTuple):
    """The worker as its page and the fleet's topic show it."""

    identity: WorkerIdentity
    link: FleetLink
    stats: StatsSource
    readiness: Readiness
    metrics: Metrics
    incidents: RecentIncidents

    @property
    def observers(self) -> list[Observer]:
        """The parts that signals feed."""
        return [self.metrics, self.readiness, self.incidents]

    def page(self, unfolded: bool) -> str:  # noqa: FBT001 - the one question
        """The status page. ``unfolded``: with the idle partitions."""
        others = [one for one in WorkerRecord.read_all(self.link.others()) if one.group == self.identity.group]
        told = self.metrics.dead_letters, self.incidents.newest_first()
        return status_page(self.identity, self.stats, self.readiness.reasons(), *told, others, unfolded=unfolded)

    def record(self, address: str) -> WorkerRecord:
        """The state of this moment. ``address``: of the page."""
        return self.identity.record(self.stats(MAX_DESTINATIONS), address, self.readiness.reasons())


def status_page(
    me: WorkerIdentity,
    stats: StatsSource,
    reasons: Sequence[str],
    dead_letters: Mapping[str, int],
    incidents: Sequence[Incident],
    others: Sequence[WorkerRecord] = (),
    *,
    unfolded: bool = False,
) -> str:
    """The page of a worker. ``reasons``: why it is not ready. ``incidents``: the newest first.

    ``others``: the other workers, as far as they are seen. ``unfolded``: whether idle partitions are shown.
    """
    now = stats(LANES)
    return page(
        me.name,
        f"<p>{_readiness(reasons)}</p>{_own_problem(now.own_problem)}"
        f"<p>{escape(me.id)}: version {escape(installed_version() or 'unknown')}, "
        f"up for {format_span((now.now_ms - me.started_ms) / 1000)}, group {escape(me.group)}</p>"
        f"<p class=dim>{time(now.now_ms)}, "
        f"renewed every {_REFRESH_SECS} s. <a href=/metrics>metrics</a> <a href=/readyz>readyz</a></p>"
        + _deliveries(now.ledger)
        + _dead_letters(dead_letters)
        + _incidents(incidents)
        + _missing_buses(now.missing_buses)
        + _backlogs(now.backlogs, now.now_ms)
        + _lanes(now.destinations, now.dispatcher.active)
        + _partitions(now.partitions, now.now_ms, unfolded=unfolded)
        + _others(others, now.now_ms),
        refresh_secs=_REFRESH_SECS,
    )


def _readiness(reasons: Sequence[str]) -> str:
    if not reasons:
        return "<span class='badge ok'>ready</span>"
    return f"<span class='badge bad'>not ready</span> {escape('; '.join(reasons))}"


def _own_problem(problem: str) -> str:
    """The line about our own credentials; empty while they work."""
    return f"<p><span class='badge bad'>no AWS credentials</span> {escape(problem)}</p>" if problem else ""


def _deliveries(ledger: Ledger) -> str:
    names = ("begun", "delivered", "dead_lettered", "moved_to_retry", "skipped", "put_back", "dropped", "in_flight")
    counts = [f"{getattr(ledger, name):,}" for name in names]
    heads = [name.replace("_", " ").replace("in flight", "open") for name in names]
    return section("Deliveries since the start", heads, [counts], numbers=range(len(names)))


def _dead_letters(counts: Mapping[str, int]) -> str:
    reasons = [reason for reason, count in counts.items() if count]
    rows = [[f"{counts[reason]:,}" for reason in reasons]] if reasons else []
    return section("Dead letters, by reason", reasons, rows, numbers=range(len(reasons)))


def _missing_buses(missing: Sequence[BusMissing]) -> str:
    """The table of missing buses; empty while all buses exist."""
    rows = [
        [
            escape(view.destination.id),
            time(view.bus.since_ms),
            escape(f"{view.destination.bus.arn}: {explain(view.destination.id, view.bus, view.swallowed)}"),
        ]
        for view in missing[:LANES]
    ]
    more = f", the first {LANES} of {len(missing):,}" if len(missing) > LANES else ""
    return section(f"Missing buses{more}", ("destination", "missing since", "bus"), rows, prose=2) if rows else ""


def _backlogs(backlogs: Sequence[BacklogStats], now_ms: int) -> str:
    """The table of destinations that have fallen behind; empty while all are served by the live reader."""
    rows = [
        [
            escape(one.destination_id),
            time(one.since_ms),
            f"{one.events:,}",
            format_span(max(0, now_ms - one.oldest_at_ms) / 1000),
            f"{one.cursors:,}",
            f"{one.per_second:.1f}",
            "not shrinking" if one.catch_up_secs is None else format_span(one.catch_up_secs),
        ]
        for one in backlogs[:LANES]
    ]
    heads = (
        "destination", "behind since", "events, at most", "oldest", "partitions", "delivered a second", "caught up in",
    )  # fmt: skip
    more = f", the {LANES} furthest of {len(backlogs):,}" if len(backlogs) > LANES else ""
    return section(f"Destinations that have fallen behind{more}", heads, rows, (2, 3, 4, 5, 6)) if rows else ""


def _lanes(lanes: Sequence[DestinationStats], active: int) -> str:
    rows = [
        [
            escape(lane.destination_id),
            f"<span class='badge {_TONES[lane.state]}'>{lane.state}</span>",
            f"{lane.per_second:.1f}",
            f"{lane.waiting:,}",
            f"{lane.calls} of {lane.max_calls}",
        ]
        for lane in lanes
    ]
    heads = ("destination", "state", "delivered a second", "waiting", "calls")
    more = f", of {active:,} the {len(lanes)} most in need" if active > len(lanes) else ""
    title = f"Destinations with something to do{more}"
    return section(title, heads, rows, numbers=(2, 3, 4), empty=_NO_LANES)


def _partitions(partitions: Mapping[str, Sequence[PartitionStats]], now_ms: int, *, unfolded: bool) -> str:
    """The busy partitions, and the idle ones folded. The link keeps them shown when the page is renewed."""
    rows: dict[bool, list[Sequence[str]]] = {True: [], False: []}
    for views in partitions.values():
        for view in sorted(views, key=lambda view: view.partition):
            is_idle = view.lag == 0 and not view.open_records
            rows[is_idle].append(_partition(view, now_ms))
    busy, idle = rows[False], rows[True]
    heads = ("partition", "committed", "lag", "open", "bytes", "oldest open", "commit unmoved for")
    numbers = range(1, len(heads))
    if not idle:
        return section("Partitions", heads, busy, numbers)
    link = "<a href='/'>fold</a>" if unfolded else "<a href='/?idle'>keep shown</a>"
    shown = f"<summary>{len(idle):,} idle</summary><p>{link}</p>{table(heads, idle, numbers)}"
    return f"<h2>Partitions</h2>{table(heads, busy, numbers)}<details{' open' * unfolded}>{shown}</details>"


def _partition(view: PartitionStats, now_ms: int) -> Sequence[str]:
    return (
        escape(str(view.partition)),
        "" if view.committed is None else f"{view.committed:,}",
        "not known" if view.lag is None else f"{view.lag:,}",
        f"{view.open_records:,}",
        f"{view.open_bytes:,}",
        "" if view.oldest_at_ms is None else f"{max(0, now_ms - view.oldest_at_ms) / 1000:.1f} s",
        f"{view.uncommitted_secs:.1f} s" if view.uncommitted_secs else "",
    )


def _others(others: Sequence[WorkerRecord], now_ms: int) -> str:
    rows = [
        (
            f"<a href='//{escape(address)}/'>{escape(address)}</a>",
            f"<span>{_fate(one, now_ms)}</span>",
            escape(one.name),
            escape(one.id),
            escape(one.version),
            format_span((now_ms - one.started_at) / 1000),
            f"{sum(one.lag.values()):,}",
        )
        for one in sorted(others, key=lambda one: one.id)
        for address in [_address(one)]
    ]
    heads = ("address", "state", "name", "id", "version", "up for", "lag")
    return section("Other workers of this group", heads, rows, numbers=(6,))


def _fate(one: WorkerRecord, now_ms: int) -> str:
    age_secs = one.age_secs(now_ms)
    if is_lost(age_secs):
        return f"<span class='badge bad'>lost</span> last seen {format_age(age_secs)}"
    return _readiness(one.reasons)


def _address(one: WorkerRecord) -> str:
    """The address of its page for others: a worker that listens on all addresses is found by its host's name."""
    host, _, port = one.http.rpartition(":")
    return f"{one.host}:{port}" if host in _ALL_ADDRESSES else one.http


def _incidents(incidents: Sequence[Incident]) -> str:
    rows = [[time(one.at_ms), *map(escape, (one.what, one.where, one.code, one.message))] for one in incidents]
    return section("Recent incidents", ("at", "what", "where", "code", "message"), rows, prose=4)
