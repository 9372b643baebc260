"""What the status page calls lately: the newest of each kind."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

from pushrail_stream.core.bus_status import MissingBus, Swallowed
from pushrail_stream.core.flood_guard import FloodReport
from pushrail_stream.core.outcome import Delivered, Retryable
from pushrail_stream.core.record import Partition
from pushrail_stream.core.retry import RetryInMemory, Settled
from pushrail_stream.core.signals import (
    Backpressure,
    BusMissing,
    CommitFailed,
    CopyFailed,
    CursorClosed,
    CursorEndangered,
    CursorOpened,
    CursorTrimmed,
    DeadLettered,
    DocumentRefused,
    Flooded,
    KafkaTrouble,
    OwnCredentialsFailed,
    PartitionRestarted,
    PartitionUnread,
    RecordsTrimmed,
    RegistryTrouble,
    SettingCaveat,
    Signal,
    Suspended,
)
from pushrail_stream.observe.incidents import RecentIncidents
from tests.support.builders import destination
from tests.support.records import EVENTS
from tests.support.signals import attempted, letter


def told(*signals: Signal) -> list[tuple[str, str, str, str]]:
    recent = RecentIncidents(count(1).__next__)
    for signal in signals:
        recent(signal)
    return [incident[1:] for incident in recent.newest_first()]


def test_the_newest_is_first_and_replaces_its_equal() -> None:
    one = DeadLettered(letter("rejected", "MalformedDetail", "first", to="dst_a"), None)
    again = DeadLettered(letter("rejected", "MalformedDetail", "second", to="dst_a"), None)
    assert told(one, CommitFailed("no coordinator"), again) == [
        ("dead letter: rejected", "dst_a", "MalformedDetail", "second"),
        ("commit refused", "", "", "no coordinator"),
    ]


def test_every_signal_for_people_is_an_incident() -> None:
    where = destination()
    found = told(
        Suspended(where, "AccessDenied", "no", 30, first=True),
        BusMissing(where, MissingBus(2_000, None), None),
        DocumentRefused("a.json", "region", "is not one"),
        KafkaTrouble("down"),
        RegistryTrouble("no folder"),
        Flooded(FloodReport(10, 9, 8, 7, 60)),
        RecordsTrimmed(Partition("pushrail.events", 3), 17, 30),
        PartitionUnread(Partition("pushrail.events", 3), 17, 61.0),
        PartitionRestarted(Partition("pushrail.events", 3), "recreated", 17),
        OwnCredentialsFailed("BaseCredentialsMissing", "none"),
        Backpressure(True, 1, 1),
    )
    assert [what for what, *_ in reversed(found)] == [
        "suspended", "bus missing", "document refused", "Kafka", "registry", "stopped", "records trimmed",
        "nothing is read", "partition restarted", "own credentials",
    ]  # fmt: skip


def test_backlogs_are_incidents_when_they_begin_and_when_they_lose_events() -> None:
    p3 = Partition("pushrail.events", 3)
    found = told(
        CursorOpened(p3, "dst_a", 17, 250),
        CursorOpened(p3, "dst_b", 19, 3),
        CursorTrimmed(p3, "dst_a", 17, 30, 4),
        CursorEndangered(p3, "dst_a", 31, 30),
        CursorClosed(p3, "dst_a", "recreated"),
        CursorClosed(p3, "dst_b", "caught_up"),
    )
    assert found == [
        ("backlog lost", "dst_a", "recreated", "with a part of pushrail.events/3"),
        ("backlog endangered", "dst_a", "", "pushrail.events/3: behind at 31, and Kafka keeps from 30 on"),
        (
            "backlog trimmed", "dst_a", "",
            "removed from pushrail.events/3: 17 to below 30, events of it: 4 or more",
        ),
        ("fell behind", "", "", "dst_b on pushrail.events/3 (offset 19)"),
    ]  # fmt: skip


def test_our_own_fault_is_one_incident() -> None:
    ours = (
        Retryable("BaseCredentialsMissing", "the token file is not there", is_our_fault=True),
        RetryInMemory(1.0, "retryable"),
    )
    theirs = attempted((Retryable("503", "busy"), RetryInMemory(1.0, "retryable")))
    found = told(*[attempted(ours, ours)] * 50, theirs, attempted((Delivered("event-1"), Settled())))
    assert found == [("our own fault", "", "BaseCredentialsMissing", "the token file is not there")]


def test_one_partitions_bad_records_are_one() -> None:
    bad = letter("undecodable", "payload", "is missing")
    at = [replace(bad, record=bad.record._replace(offset=offset)) for offset in range(100)]
    copies = [CopyFailed(dead, "no leader", 1.0) for dead in at]
    found = told(
        BusMissing(destination(), MissingBus(2_000, 1_000), Swallowed(3, 1_500, 2_001)),
        *(DeadLettered(dead, None) for dead in at),
        *copies,
    )
    assert found == [
        ("copy not written", f"{EVENTS}/0", "", "no leader (offset 99)"),
        ("dead letter: undecodable", f"{EVENTS}/0", "payload", "is missing (offset 99)"),
        (
            "bus missing",
            "dst_acme",
            "",
            (
                f"{destination().bus.arn}: last seen 1970-01-01T00:00:01.000Z; 3 deliveries from "
                "1970-01-01T00:00:01.500Z on were reported as delivered. Once the bus exists again, send them again: "
                "pushrail-stream replay events --destination dst_acme --delivered-since 1970-01-01T00:00:01.500Z "
                "--delivered-until 1970-01-01T00:00:02.001Z"
            ),
        ),
    ]


def test_a_setting_caveat_stays_first() -> None:
    caveat = SettingCaveat("vendor", "is not set")
    many = (DeadLettered(letter("rejected", f"code-{n}", ""), None) for n in range(100))
    found = told(caveat, caveat, *many)
    assert found[0] == ("setting", "vendor", "", "is not set")
    assert [what for what, *_ in found].count("setting") == 1
    assert len(found) == 31


def test_incidents_are_bounded() -> None:
    assert len(told(*(CommitFailed("x") for _ in range(100)))) == 1
    many = (DeadLettered(letter("rejected", f"code-{n}", ""), None) for n in range(100))
    assert [code for _, _, code, _ in told(*many)][:2] == ["code-99", "code-98"]
    assert len(told(*(DeadLettered(letter("rejected", f"code-{n}", ""), None) for n in range(100)))) == 30


def test_incidents_hold_no_secrets() -> None:
    said = told(KafkaTrouble("signature=" + "0123456789abcdef" * 4))
    assert "0123456789abcdef" not in said[0][3]
