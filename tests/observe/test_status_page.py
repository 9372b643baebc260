"""The status page: what it shows, and how a real browser shows it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import aiohttp
import pytest

from pushrail_stream.core.bus_status import MissingBus, Swallowed
from pushrail_stream.core.ledger import Ledger
from pushrail_stream.core.record import Partition
from pushrail_stream.core.signals import BusMissing
from pushrail_stream.observe.incidents import Incident
from pushrail_stream.observe.ops_server import serve_ops
from pushrail_stream.observe.status_page import status_page
from pushrail_stream.observe.worker_record import WorkerIdentity, WorkerRecord, installed_version
from pushrail_stream.pipeline.stats import (
    BacklogStats,
    DestinationStats,
    DispatcherStats,
    PartitionStats,
    WorkerStats,
)
from pushrail_stream.settings.model import HttpSettings
from tests.support.browser import Browser
from tests.support.builders import destination
from tests.support.stats import stats_of

AT_MS = 1_780_000_000_000
ME = WorkerIdentity("host-2-ab12", "pushrail-stream-2", "host", "deliveries", AT_MS - 93_784_000)
LANES = [
    DestinationStats("dst_gone", "gone", 4, 0, 8, 0.0),
    DestinationStats("dst_suspended", "suspended", 0, 0, 8, 0.0),
    DestinationStats("dst_slowed", "slowed", 1_234, 2, 2, 17.25),
    DestinationStats("dst_<b>odd</b>", "ok", 0, 1, 8, 120.0),
]
VIEWS = {
    "events": [
        PartitionStats(Partition("pushrail.events", 1), 12, 9_600, AT_MS - 4_200, 1_000_000, 2.5, lag=41),
        PartitionStats(Partition("pushrail.events", 0), 0, 0, None, None, 0.0),
        *(PartitionStats(Partition("pushrail.events", n), 0, 0, None, 1_000 * n, 0.0, lag=0) for n in range(5, 12)),
    ],
    "retries": [PartitionStats(Partition("pushrail.retry.10s", 0), 1, 800, AT_MS - 100, 7, 0.0, lag=40)],
}
INCIDENTS = [
    Incident(AT_MS - 1_000, "dead letter: blocked", "dst_gone", "EventBusNotFound", "no <script>alert(1)</script>")
]


def ledger() -> Ledger:
    return Ledger(begun=1_000_020, delivered=1_000_000, dead_lettered=7)


def status(
    reasons: Sequence[str] = (),
    *,
    missing_buses: Sequence[BusMissing] = (),
    backlogs: Sequence[BacklogStats] = (),
    incidents: Sequence[Incident] = INCIDENTS,
    others: Sequence[WorkerRecord] = (),
    unfolded: bool = False,
) -> str:
    stats = stats_of(
        ledger=ledger(),
        dispatcher=DispatcherStats(321, 1, 1, 1, 3, 1_238),
        destinations=LANES,
        missing_buses=missing_buses,
        backlogs=backlogs,
        partitions=VIEWS,
        now_ms=AT_MS,
    )
    letters = {"blocked": 5, "rejected": 2, "expired": 0}
    return status_page(ME, stats, reasons, letters, incidents, others, unfolded=unfolded)


def missing(name: str, swallowed: Swallowed | None = None) -> BusMissing:
    return BusMissing(destination(name), MissingBus(AT_MS - 5_000, AT_MS - 65_000), swallowed)


def with_missing(*views: BusMissing) -> str:
    return text(status(missing_buses=views))


def test_a_missing_bus_shows_its_replay_command() -> None:
    assert "Missing buses" not in text(status())
    shown = with_missing(missing("acme", Swallowed(28, AT_MS - 64_000, AT_MS - 4_999)), missing("idle"))
    assert (
        "dst_acme | 2026-05-28T20:26:35.000Z | arn:aws:events:us-east-1:123456789012:event-bus/bus-acme: last seen "
        "2026-05-28T20:25:35.000Z; 28 deliveries from 2026-05-28T20:25:36.000Z on were reported as delivered. Once the "
        "bus exists again, send them again: pushrail-stream replay events --destination dst_acme "
        "--delivered-since 2026-05-28T20:25:36.000Z --delivered-until 2026-05-28T20:26:35.001Z"
    ) in shown
    assert "bus-idle: last seen 2026-05-28T20:25:35.000Z; nothing was reported as delivered since then" in shown
    many = with_missing(*(missing(f"m{number}") for number in range(60)))
    assert "Missing buses, the first 50 of 60" in many
    assert "dst_m59" not in many


def backlog(name: str, catch_up_secs: float | None = None) -> BacklogStats:
    return BacklogStats(name, 2, AT_MS - 65_000, 34, 1_200, AT_MS - 3_725_000, 12.34, catch_up_secs)


def test_a_backlog_shows_how_much_and_how_long() -> None:
    title = "Destinations that have fallen behind"
    assert title not in text(status())
    shown = text(status(backlogs=[backlog("dst_<b>far</b>", 750.0), backlog("dst_down")]))
    assert "dst_<b>far</b> | 2026-05-28T20:25:35.000Z | 1,234 | 1 h 2 min | 2 | 12.3 | 12 min 30 s" in shown
    assert "dst_down | 2026-05-28T20:25:35.000Z | 1,234 | 1 h 2 min | 2 | 12.3 | not shrinking" in shown
    many = text(status(backlogs=[backlog(f"dst_{number}") for number in range(60)]))
    assert f"{title}, the 50 furthest of 60" in many
    assert "dst_59" not in many


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.cells: list[str] = []

    def handle_data(self, data: str) -> None:
        self.cells.append(data)


def text(page: str) -> str:
    parser = _Text()
    parser.feed(page)
    return " | ".join(parser.cells)


def test_the_page_shows_the_whole_state() -> None:
    shown = text(status())
    for part in (
        "pushrail-stream-2", "ready", "1,000,020", "blocked | rejected", "5 | 2", "of 321 the 4 most in need",
        "dst_gone | gone", "dst_slowed | slowed | 17.2 | 1,234 | 2 of 2", "dst_<b>odd</b> | ok",
        "pushrail.events/1 | 1,000,000 | 41 | 12 | 9,600 | 4.2 s | 2.5 s", "pushrail.events/0 | not known | 0",
        "EventBusNotFound | no <script>alert(1)</script>",
    ):  # fmt: skip
        assert part in shown
    assert "expired" not in shown, "what never happened takes no place"


def test_incidents_come_before_long_tables() -> None:
    page = status()
    places = [page.index(title) for title in ("Dead letters", "Recent incidents", "Destinations with", "Partitions")]
    assert places == sorted(places)


def test_it_runs_and_loads_nothing() -> None:
    page = status()
    assert not re.search(r"<script|<link|<img|src=|@import|url\(|://", page)


def test_it_says_why_a_worker_is_not_ready() -> None:
    shown = text(status(["stopping", "a <b>"]))
    assert "not ready |  stopping; a <b>" in shown


def test_it_says_who_it_is_and_for_how_long() -> None:
    assert f"host-2-ab12: version {installed_version()}, up for 1 d 2 h, group deliveries" in text(status())
    for secs, shown in ((75, "1 min 15 s"), (3_660, "1 h 1 min"), (-5, "0 s")):
        me = WorkerIdentity("id", "w", "host", "group", AT_MS - secs * 1000)
        assert f"up for {shown}, " in text(status_page(me, stats_of(now_ms=AT_MS), [], {}, []))


def other(name: str, http: str, at_ms: int, *reasons: str) -> WorkerRecord:
    """Another worker, as it was at this time."""
    me = WorkerIdentity(name, "pushrail-stream", "host-b", "deliveries", AT_MS - 600_000)
    lagging = [PartitionStats(Partition("pushrail.events", 7), 1, 1, None, 1, 0.0, lag=1_234)]
    return me.record(WorkerStats(now_ms=at_ms, partitions={"events": lagging}), http, reasons)


OTHERS = [
    other("b", "0.0.0.0:9464", AT_MS - 4_000),
    other("a", "127.0.0.1:9465", AT_MS - 21_000),
    other("c", "10.0.0.7:9464", AT_MS, "stopping"),
    other("d", "127.0.0.1:9466", AT_MS + 21_000),
]


def test_it_shows_the_other_workers() -> None:
    page = status_page(ME, stats_of(now_ms=AT_MS), [], {}, [], OTHERS)
    version = installed_version()
    shown = text(page)
    assert (
        f"127.0.0.1:9465 | lost |  last seen 21 s ago | pushrail-stream | a | {version} | 10 min 0 s | 1,234" in shown
    )
    assert "127.0.0.1:9466 | lost |  last seen 21 s ahead | pushrail-stream | d" in shown
    assert f"host-b:9464 | ready | pushrail-stream | b | {version} | 10 min 0 s | 1,234" in shown
    assert f"10.0.0.7:9464 | not ready |  stopping | pushrail-stream | c | {version}" in shown
    assert "<a href='//host-b:9464/'>" in page
    assert "Other workers of this group | None." in text(status())


def test_idle_partitions_are_folded() -> None:
    shown = text(status())
    assert "7 idle" in shown
    assert shown.index("pushrail.events/0") < shown.index("7 idle") < shown.index("pushrail.events/5")
    assert "keep shown" in shown
    assert "fold" in text(status(unfolded=True))
    assert "idle" not in text(status_page(ME, stats_of(), [], {}, []))


def test_it_says_that_our_own_credentials_fail() -> None:
    shown = text(status_page(ME, stats_of(own_problem="ExpiredToken: it is <over>"), [], {}, []))
    assert "ready | no AWS credentials |  ExpiredToken: it is <over>" in shown
    assert "AWS credentials" not in text(status())


def test_an_idle_worker_shows_an_empty_page() -> None:
    empty = status_page(ME, stats_of(), [], {}, [])
    assert text(empty).count("None.") == 4
    assert "Destinations with something to do | None since the start. The delivery log" in text(empty)


LONG = "x" * 60
NASTY = Incident(AT_MS, f"what {LONG}", f"{LONG}.{LONG}.{LONG}", f"Code{LONG}", f"{LONG * 4} and some words " * 4)


@pytest.mark.parametrize("width", [400, 1280])
async def test_a_real_browser_shows_all_of_it(tmp_path: Path, width: int) -> None:
    """Nothing is off-screen. PUSHRAIL_TEST_SCREENSHOTS names a folder for the screenshots."""
    reasons = [f"{LONG * 3}/7: nothing was read for 61 s although its end is ahead"]

    def page(unfolded: bool) -> str:  # noqa: FBT001 - as the server calls it
        return status(
            reasons,
            incidents=[*INCIDENTS, NASTY],
            missing_buses=[missing(LONG)],
            backlogs=[backlog(f"dst_{LONG}")],
            others=[*OTHERS, other(LONG, f"{LONG}:9464", AT_MS, LONG)],
            unfolded=unfolded,
        )

    async with (
        serve_ops(HttpSettings(port=0), exposition=lambda _: (b"", ""), unready=list, page=page) as port,
        Browser.open(tmp_path) as browser,
    ):
        await browser.show(f"http://127.0.0.1:{port}/", width)
        assert await browser.overflowing() == []
        shown = await browser.evaluate("document.body.innerText")
        assert "dst_slowed" in shown
        assert "dst_<b>odd</b>" in shown, "what customers named is text"
        picture = await browser.screenshot()
        assert "pushrail.events/5" not in shown, "idle partitions are folded"
        await browser.show(f"http://127.0.0.1:{port}/?idle", width)
        assert "pushrail.events/5" in await browser.evaluate("document.body.innerText")
        assert await browser.overflowing() == []
    assert picture.startswith(b"\x89PNG")
    if folder := os.environ.get("PUSHRAIL_TEST_SCREENSHOTS"):
        (Path(folder) / f"status-{width}.png").write_bytes(picture)


async def test_the_page_is_served_and_may_load_nothing() -> None:
    async with (
        serve_ops(HttpSettings(port=0), exposition=lambda _: (b"", ""), unready=list, page=lambda _: "hello") as port,
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/") as reply,
    ):
        assert (reply.status, await reply.text(), reply.content_type) == (200, "hello", "text/html")
        assert reply.headers["Content-Security-Policy"] == "default-src 'none'; style-src 'unsafe-inline'"


async def test_a_file_name_outside_utf_8_is_shown() -> None:
    told = status(incidents=[Incident(AT_MS, "document refused", os.fsdecode(b"\xff.json"), "", "")])
    async with (
        serve_ops(HttpSettings(port=0), exposition=lambda _: (b"", ""), unready=list, page=lambda _: told) as port,
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/") as reply,
    ):
        assert reply.status == 200
        assert "\\udcff.json" in await reply.text()


@pytest.mark.parametrize("lanes", [0, 60])
def test_lanes_are_bounded(lanes: int) -> None:
    many = [DestinationStats(f"dst_{n}", "ok", 0, 0, 8, 0.0) for n in range(lanes)]

    def stats(max_destinations: int = 0) -> WorkerStats:
        return WorkerStats(destinations=many[:max_destinations], dispatcher=DispatcherStats(lanes))

    assert status_page(ME, stats, [], {}, []).count("dst_") <= 50 + 1
