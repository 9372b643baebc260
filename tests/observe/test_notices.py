"""Notices are CloudEvents, each written once when a state begins or ends."""

from __future__ import annotations

import json
import re
from typing import Any

from pushrail_stream.core.bus_status import MissingBus, Swallowed
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.signals import (
    BusFound,
    BusMissing,
    OwnCredentialsFailed,
    OwnCredentialsFound,
    Resumed,
    Suspended,
)
from pushrail_stream.observe.notices import Expiring, Notices
from pushrail_stream.pipeline.stats import BacklogStats
from tests.support.builders import destination
from tests.support.signals import AT_MS

BUS = destination()
DAY_MS = 86_400_000


class Desk:
    """Notices, and a clock that is set by hand."""

    def __init__(self, worker: str = "w1") -> None:
        self.now_ms = AT_MS
        self.written: list[tuple[str, dict[str, Any]]] = []
        self.notices = Notices(self._append, "a group", worker, lambda: self.now_ms, self._find)

    def _append(self, key: bytes, *values: bytes) -> None:
        self.written += [(key.decode(), json.loads(value)) for value in values]

    def _find(self, destination_id: str) -> Destination | None:
        return BUS if destination_id == BUS.id else None

    @property
    def types(self) -> list[str]:
        return [notice["type"].removeprefix("pushrail.") for _, notice in self.written]

    def look(self, secs: float, *sizes: int, name: str = BUS.id) -> None:
        """Look at backlogs of these sizes, this number of seconds later each time."""
        for size in sizes:
            self.now_ms += round(secs * 1000)
            one = BacklogStats(name, 1, AT_MS, 0, size, AT_MS - 1_000, 1.0, None)
            self.notices.look([one] if size else [])


def test_a_notice_is_a_cloud_event() -> None:
    desk = Desk()
    desk.notices(Suspended(BUS, "AccessDenied", "no", 30.4, first=True))
    desk.notices(Resumed(BUS, 31.2))
    [(key, notice), (_, second)] = desk.written
    assert key == notice["subject"] == BUS.id
    assert notice == {
        "specversion": "1.0",
        "id": "w1-0",
        "source": "/pushrail-stream/a%20group",
        "type": "pushrail.destination.suspended",
        "subject": BUS.id,
        "time": notice["time"],
        "datacontenttype": "application/json",
        "data": {
            "destinationId": BUS.id,
            "vendor": BUS.vendor,
            "customerExternalId": BUS.customer_external_id,
            "code": "AccessDenied",
            "message": "no",
            "probeInSecs": 30,
            "worker": "w1",
        },
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", notice["time"])
    assert (second["id"], second["data"]["suspendedSecs"], second["data"]["why"]) == ("w1-1", 31, "delivered")


def test_a_failed_probe_is_no_notice() -> None:
    desk = Desk()
    desk.notices(Suspended(BUS, "AccessDenied", "no", 60.0, first=False))
    assert desk.written == []


def test_a_missing_bus_is_told_with_the_command_that_repairs() -> None:
    desk = Desk()
    desk.notices(BusMissing(BUS, MissingBus(AT_MS, None), None))
    desk.notices(BusFound(BUS, 12.0, Swallowed(3, 1_500, 2_001)))
    assert desk.types == ["bus.missing", "bus.found"]
    missing, found = (notice["data"] for _, notice in desk.written)
    assert (missing["busArn"], missing["lastSeen"], missing["deliveredSince"]) == (BUS.bus.arn, None, 0)
    assert found["deliveredSince"] == 3
    assert found["replay"].startswith("pushrail-stream replay events --destination")


def test_our_failing_credentials_are_told_once() -> None:
    desk = Desk()
    desk.notices(OwnCredentialsFound())
    for _ in range(3):
        desk.notices(OwnCredentialsFailed("BaseCredentialsMissing", "none"))
    desk.notices(OwnCredentialsFound())
    desk.notices(OwnCredentialsFound())
    desk.notices(OwnCredentialsFailed("ExpiredToken", "old"))
    assert desk.types == ["credentials.failing", "credentials.working", "credentials.failing"]
    assert desk.written[0][1]["data"] == {"code": "BaseCredentialsMissing", "message": "none", "worker": "w1"}
    assert "subject" not in desk.written[0][1]


def test_a_backlog_that_grows_is_told_once() -> None:
    desk = Desk()
    desk.look(30, *range(100, 1_000, 100))
    assert desk.types == [], "it is not known yet for five minutes"
    desk.look(30, *range(1_000, 4_000, 100))
    assert desk.types == ["backlog.growing"]
    data = desk.written[0][1]["data"]
    assert (data["destinationId"], data["eventsBefore"], data["events"], data["beforeSecs"]) == (
        BUS.id,
        100,
        1_100,
        300,
    )
    desk.look(30, 0)
    assert desk.types == ["backlog.growing", "backlog.ended"]


def test_a_backlog_that_shrinks_and_grows_again_is_told_again() -> None:
    desk = Desk()
    desk.look(300, 100, 200, 300)
    desk.look(300, 150, 100, 90, 90)
    assert desk.types == ["backlog.growing"]
    desk.look(300, 95, 96)
    assert desk.types == ["backlog.growing"] * 2
    desk.look(300, 20)
    desk.look(300, 0)
    assert desk.types == ["backlog.growing"] * 2, "it had shrunk"


def test_a_burst_that_is_caught_up_is_no_notice() -> None:
    desk = Desk()
    desk.look(30, 5_000, 4_000, 6_000, 3_000, 1_000, 0)
    desk.look(30, 5_000, 4_000, 0)
    assert desk.written == []


def test_a_backlog_of_an_unknown_destination_has_its_id() -> None:
    desk = Desk()
    desk.look(300, 1, 2, name="dst_gone")
    assert (desk.types, desk.written[0][1]["data"]["destinationId"]) == (["backlog.growing"], "dst_gone")


def test_expiring_dead_letters_are_told_once_a_day_with_one_id_for_all_workers() -> None:
    desk, other = Desk(), Desk("w2")
    found = Expiring("pushrail.dlq", 7, AT_MS + DAY_MS)
    for one in (desk, other):
        one.notices.look_at_dead_letters(None)
        one.notices.look_at_dead_letters(Expiring("pushrail.dlq", 0, 0))
        one.notices.look_at_dead_letters(found)
        one.notices.look_at_dead_letters(found)
    [(key, notice)] = desk.written
    assert (key, notice["type"], notice["data"]["letters"]) == (
        "deadletters.expiring",
        "pushrail.deadletters.expiring",
        7,
    )
    assert notice["id"] == other.written[0][1]["id"] == f"pushrail.dlq-{notice['time'][:10]}"
    desk.now_ms += DAY_MS
    desk.notices.look_at_dead_letters(found)
    assert desk.types == ["deadletters.expiring"] * 2
