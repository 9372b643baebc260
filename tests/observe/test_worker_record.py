"""A worker's state: bounded, read back as it was written, and never taken from a foreign record."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.core.ledger import Ledger
from pushrail_stream.core.record import Partition
from pushrail_stream.observe.worker_record import BacklogSummary, WorkerIdentity, WorkerRecord
from pushrail_stream.pipeline.stats import BacklogStats, DestinationStats, DispatcherStats, PartitionStats, WorkerStats

IDENTITY = WorkerIdentity.new("pushrail-stream-2", "group", 1_000)


def stats(destinations: int = 1, partitions: int = 1) -> WorkerStats:
    some = [
        PartitionStats(Partition("events", number), 3, 300, 900, 10, 0.0, 13, 0.0, lag=number)
        for number in range(partitions)
    ]
    return WorkerStats(
        now_ms=2_000,
        ledger=Ledger(begun=10, delivered=6, dead_lettered=1),
        dispatcher=DispatcherStats(active=destinations, waiting=7, calls=2),
        destinations=[DestinationStats(f"dst_{n}", "retrying", 5, 1, 8, 1.234) for n in range(destinations)],
        backlogs=[BacklogStats(f"dst_{n}", 1, 1_500, 3, 40, 1_400, 2.345, 8.64) for n in range(destinations)],
        partitions={"events": some, "retries": []},
    )


def test_it_is_read_back() -> None:
    state = IDENTITY.record(stats(), "127.0.0.1:9464", ["stopping"])
    read = WorkerRecord.read(state.encode())
    assert read is not None
    assert read.encode() == state.encode()
    assert (read.id, read.name, read.group, read.started_at, read.at) == (
        IDENTITY.id, "pushrail-stream-2", "group", 1_000, 2_000,
    )  # fmt: skip
    assert read.deliveries["inFlight"] == 3
    assert read.deliveries["deadLettered"] == 1
    assert (read.totals["active"], read.totals["waiting"], read.totals["attemptsLost"]) == (1, 7, 0)
    assert read.lag == {"events": 0, "retries": 0}
    assert (read.destinations[0].id, read.destinations[0].per_second) == ("dst_0", 1.23)
    assert read.partitions[0].topic == "events"
    assert read.backlogs == [BacklogSummary("dst_0", 1, 1_500, 3, 40, 1_400, 2.35, 8.6)]
    assert (read.totals["behind"], read.totals["cursors"], read.totals["backlogEvents"]) == (1, 1, 43)


def test_each_start_has_an_id_of_its_own() -> None:
    assert len({WorkerIdentity.new("pushrail-stream", "group", 1_000).id for _ in range(100)}) == 100
    assert IDENTITY.host in IDENTITY.id
    assert "-2-" in IDENTITY.id.removeprefix(IDENTITY.host), "workers of one command"


def test_a_record_is_bounded() -> None:
    state = IDENTITY.record(stats(5_000, 2_000), "host:1", ["x"] * 50)
    assert state.totals["active"] == 5_000
    assert state.lag["events"] == sum(range(2_000))
    assert state.partition_count == 2_000
    assert (len(state.backlogs), state.totals["behind"], state.totals["backlogEvents"]) == (50, 5_000, 215_000)
    assert state.partitions[0].lag == 1_999, "those that lag most"
    assert len(state.encode()) < 64 * 2**10


def test_a_record_of_a_worker_without_backlogs_is_read() -> None:
    said = json.loads(IDENTITY.record(stats(), "host:1", []).encode())
    del said["backlogs"]
    read = WorkerRecord.read(json.dumps(said).encode())
    assert read is not None, "an older worker tells none"
    assert read.backlogs == ()


@given(st.binary(max_size=100))
def test_a_foreign_record_is_none(value: bytes) -> None:
    assert WorkerRecord.read(value) is None


@pytest.mark.parametrize("change", [{"at": "now"}, {"destinations": [{"id": "x", "state": "fine"}]}, {"id": None}])
def test_a_record_of_another_shape_is_none(change: dict[str, object]) -> None:
    said = json.loads(IDENTITY.record(stats(), "host:1", []).encode())
    assert WorkerRecord.read(json.dumps(said | change).encode()) is None
    assert WorkerRecord.read(json.dumps(said | {"news": 1}).encode()) is not None, "a newer worker says more"


INTEGERS = ("at", "startedAt", "lag", "totals", "waiting", "oldestAt")


@pytest.mark.parametrize(
    ("place", "number"),
    [("perSecond", 1.7e308), *((place, sign * 2**63 + 1) for place in INTEGERS for sign in (1, -2))],
)
def test_a_number_that_no_worker_writes_makes_a_record_foreign(place: str, number: float) -> None:
    said = json.loads(IDENTITY.record(stats(), "host:1", []).encode())
    of_destination, of_partition = said["destinations"][0], said["partitions"][0]
    holder = next((one for one in (of_destination, of_partition) if place in one), said)
    holder[place] = {"events": number} if isinstance(holder[place], dict) else number
    assert WorkerRecord.read(json.dumps(said).encode()) is None


def test_a_record_of_another_size_is_none() -> None:
    said = json.loads(IDENTITY.record(stats(), "host:1", []).encode())
    assert WorkerRecord.read(json.dumps(said | {"id": "x" * 2**18}).encode()) is None
