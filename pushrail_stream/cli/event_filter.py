"""The options of ``replay events`` that choose past events, by when they were produced or delivered."""

from __future__ import annotations

from dataclasses import replace

from pushrail_stream.cli.times import check_period, now_ms
from pushrail_stream.errors import UsageError
from pushrail_stream.operations.replay import ANY_TIME, EventFilter


def events_asked_for(
    *,
    resume: str | None,
    everything: bool,
    customer: str | None,
    destination: str | None,
    event_type: str | None,
    **times: int | None,
) -> EventFilter | None:
    """The filter; None when a replay is resumed, because that has its own."""
    some = everything or not (customer is destination is event_type is None)
    if resume is not None:
        if some or any(time is not None for time in times.values()):
            raise UsageError("--resume: goes on with that replay's own filter; give no other")
        return None
    if times["delivered_since_ms"] is None and times["delivered_until_ms"] is None:
        period = _produced_asked_for(times["since_ms"], times["until_ms"], some=some)
    else:
        period = _delivered_asked_for(**times, is_narrow=destination is not None and not everything)
    return replace(period, customer=customer, destination=destination, event_type=event_type)


def _produced_asked_for(since_ms: int | None, until_ms: int | None, *, some: bool) -> EventFilter:
    if since_ms is None:
        raise UsageError("--since: is required, unless --resume goes on with a replay")
    if not some:
        raise UsageError(
            "--customer, --destination, --event-type: one of them is required; --all sends everything again"
        )
    check_period(since_ms, until_ms)
    return EventFilter(since_ms=since_ms, until_ms=now_ms() if until_ms is None else until_ms)


def _delivered_asked_for(
    *,
    since_ms: int | None,
    until_ms: int | None,
    delivered_since_ms: int | None,
    delivered_until_ms: int | None,
    is_narrow: bool,
) -> EventFilter:
    if delivered_since_ms is None:
        raise UsageError("--delivered-until: needs --delivered-since")
    if not is_narrow or not (since_ms is until_ms is None):
        raise UsageError("--delivered-since: needs --destination, and neither --since nor --until nor --all")
    check_period(delivered_since_ms, delivered_until_ms, "--delivered-")
    return EventFilter(
        since_ms=ANY_TIME[0],
        until_ms=ANY_TIME[1],
        delivered_since_ms=delivered_since_ms,
        delivered_until_ms=now_ms() if delivered_until_ms is None else delivered_until_ms,
    )
