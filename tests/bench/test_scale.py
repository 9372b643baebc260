from __future__ import annotations

import sys

import pytest

from tests.bench import commits, sign_in
from tests.bench.__main__ import main
from tests.bench.checkout import open_checkout
from tests.bench.fleet import Progress, cost, in_runs
from tests.bench.scale import by_destination


def test_customers_have_their_turns_with_events_in_a_row() -> None:
    assert list(in_runs(3, 14, 4)) == [0] * 4 + [1] * 4 + [2] * 4 + [0] * 2
    assert len(list(in_runs(1_000, 20_000, 10))) == 20_000


def test_cost_is_of_the_time_between_two_looks() -> None:
    first, last = Progress(10.0, 1_000, 100, 2.0), Progress(12.0, 5_000, 600, 2.2)
    assert cost(first, last) == {"cpu_us_per_event": 50.0, "events_per_s": 2_000, "entries_per_call": 8.0}


def test_a_further_destination_costs_the_difference() -> None:
    rows = {
        "destinations_10": {"cpu_us_per_event": 60.0, "signed_in_mib": 100, "start_cpu_secs": 2.0},
        "destinations_1000": {"cpu_us_per_event": 90.0, "signed_in_mib": 110, "start_cpu_secs": 2.99},
    }
    assert by_destination(rows, (10, 1_000)) == {
        "cpu_us_per_event_most_by_least": 1.5,
        "kib_per_destination": 10.3,
        "start_ms_per_destination": 1.0,
    }


def test_a_commit_of_full_windows_is_measured() -> None:
    told = commits.measure()
    assert (told["partitions"], told["offsets_each"]) == (12, 10_000)
    assert 0 < told["median_stall_ms"] <= told["longest_stall_ms"]
    assert told["longest_cpu_ms"] > 0


def test_sign_ins_are_measured() -> None:
    assert sign_in.measure(roles=20)["cpu_us_per_sign_in"] > 0


def test_the_python_build_is_named() -> None:
    build = open_checkout().build
    assert sys.version.split()[0] in build
    assert "PGO" in build
    assert "LTO" in build


def test_an_unknown_row_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["bench", "--only", "fill,latancy"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "there is no row latancy" in capsys.readouterr().err
