"""The status page: what it shows, and how a real browser shows it."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
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
from pushrail_stream.pipeline.stats import (
    DestinationStats,
    DispatcherStats,
    PartitionStats,
    WorkerStats,
)
from pushrail_stream.settings.model import HttpSettings
from tests.support.builders import destination
from tests.support.patience import PATIENCE_SECS
from tests.support.stats import stats_of
from tests.support.tools import needed_tool

AT_MS = 1_780_000_000_000
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
    incidents: Sequence[Incident] = INCIDENTS,
) -> str:
    stats = stats_of(
        ledger=ledger(),
        dispatcher=DispatcherStats(321, 1, 1, 1, 3, 1_238),
        destinations=LANES,
        missing_buses=missing_buses,
        partitions=VIEWS,
        now_ms=AT_MS,
    )
    letters = {"blocked": 5, "rejected": 2, "expired": 0}
    return status_page("pushrail-stream-2", stats, reasons, letters, incidents)


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


def test_it_says_that_our_own_credentials_fail() -> None:
    shown = text(status_page("w", stats_of(own_problem="ExpiredToken: it is <over>"), [], {}, []))
    assert "ready | no AWS credentials |  ExpiredToken: it is <over>" in shown
    assert "AWS credentials" not in text(status())


def test_an_idle_worker_shows_an_empty_page() -> None:
    empty = status_page("w", stats_of(), [], {}, [])
    assert text(empty).count("None.") == 4


async def test_a_real_browser_shows_it(tmp_path: Path) -> None:
    """The page has no script (see above). PUSHRAIL_TEST_SCREENSHOTS names a folder for the screenshots."""
    browser = needed_tool("chromium", "apt-get install chromium")
    picture = tmp_path / "status.png"

    async def show(*words: str, port: int) -> bytes:
        process = await asyncio.create_subprocess_exec(
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
            f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1280,1000",
            *words, f"http://127.0.0.1:{port}/",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE_SECS)
        assert process.returncode == 0, err.decode()
        return out

    async with serve_ops(HttpSettings(port=0), exposition=lambda _: (b"", ""), unready=list, page=status) as port:
        document = (await show("--dump-dom", port=port)).decode()
        await show(f"--screenshot={picture}", port=port)
    assert "dst_slowed" in text(document)
    assert "<b>odd</b>" not in document, "what customers named is text"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 20_000, "there is something on it"
    folder = os.environ.get("PUSHRAIL_TEST_SCREENSHOTS")
    if folder:
        shutil.copy(picture, Path(folder) / "status.png")


async def test_the_page_is_served_and_may_load_nothing() -> None:
    async with (
        serve_ops(HttpSettings(port=0), exposition=lambda _: (b"", ""), unready=list, page=lambda: "hello") as port,
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/") as reply,
    ):
        assert (reply.status, await reply.text(), reply.content_type) == (200, "hello", "text/html")
        assert reply.headers["Content-Security-Policy"] == "default-src 'none'; style-src 'unsafe-inline'"


async def test_a_file_name_outside_utf_8_is_shown() -> None:
    told = status(incidents=[Incident(AT_MS, "document refused", os.fsdecode(b"\xff.json"), "", "")])
    async with (
        serve_ops(HttpSettings(port=0), exposition=lambda _: (b"", ""), unready=list, page=lambda: told) as port,
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

    assert status_page("w", stats, [], {}, []).count("dst_") <= 50 + 1
