"""The temporary file that holds events and the traces of their deliveries."""

from __future__ import annotations

from pathlib import Path

import pytest

from pushrail_stream.errors import OperatorError
from pushrail_stream.operations.spill import Spill, SpilledEvent, Trace
from tests.support.dead_letters import AT


def test_a_full_disk_says_what_to_do() -> None:
    def fill() -> None:
        with Spill.open() as spill:
            spill._database.execute("PRAGMA max_page_count = 20")
            for offset in range(100_000):
                spill.add_event(SpilledEvent(0, offset, "acme", "acct_0", AT))

    with pytest.raises(
        OperatorError, match=r"the temporary file cannot be used: database or disk is full; TMPDIR names"
    ):
        fill()


def event(partition: int, offset: int) -> SpilledEvent:
    return SpilledEvent(partition, offset, "acme", "acct_0", AT)


def trace(partition: int, offset: int, destination: str = "dst_0") -> Trace:
    return Trace(partition, offset, destination, "delivered", None, 1)


def test_each_event_comes_with_its_traces() -> None:
    with Spill.open() as spill:
        for place in ((1, 4), (0, 7), (0, 5)):
            spill.add_event(event(*place))
        spill.add_trace(trace(0, 7, "dst_b"))
        spill.add_trace(trace(0, 7, "dst_a"))
        spill.add_trace(trace(0, 6))
        spill.add_trace(trace(1, 4))
        spill.add_trace(trace(9, 9))
        found = {(one.partition, one.offset): sorted(t.destination or "" for t in traces) for one, traces in spill}
        assert list(found.items()) == [((0, 5), []), ((0, 7), ["dst_a", "dst_b"]), ((1, 4), ["dst_0"])]
        assert spill.count == 3


def test_a_forged_trace_is_left_out() -> None:
    with Spill.open() as spill:
        spill.add_event(event(0, 5))
        for place in ((-1, 5), (0, -1), (0, 2**63), (2**64, 5)):
            spill.add_trace(trace(*place))
        assert [traces for _, traces in spill] == [[]]


def test_a_spill_knows_the_bounds_of_its_events() -> None:
    with Spill.open() as spill:
        for offset in (7, 5):
            spill.add_event(event(0, offset))
        assert [spill.may_hold(0, offset) for offset in (4, 5, 6, 7, 8)] == [False, True, True, True, False]
        assert not spill.may_hold(1, 5)


def test_the_file_is_removed_with_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Spill.open():
        assert len(list(tmp_path.glob("pushrail-check-*/check.sqlite"))) == 1
    assert list(tmp_path.iterdir()) == []
