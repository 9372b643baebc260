"""The line of progress appears on a terminal only, after a second, and is true."""

from __future__ import annotations

import io
import sys

import pytest

from pushrail_stream.cli.progress import ProgressBar, describe
from tests.support.signals import Terminal


@pytest.mark.parametrize(
    ("done", "secs", "line"),
    [
        (500, 10, "events: 500 of 2,000, 50 a second, 30 s left"),
        (2_000, 10, "events: 2,000 of 2,000, 200 a second"),
        (0, 10, "events: 0 of 2,000, 0 a second"),
        (0, 0, "events: 0 of 2,000, 0 a second"),
    ],
)
def test_a_line_has_share_speed_and_time_left(done: int, secs: float, line: str) -> None:
    assert describe("events", done, 2_000, secs) == line


def test_it_shows_five_lines_a_second_and_clears(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    moments = iter((100.0, 100.5, 101.0, 101.1, 101.2))
    with ProgressBar(clock=lambda: next(moments)) as bar:
        bar.begin("dead letters")
        for done in (1, 2, 3, 4):
            bar.extra = f"{done // 2} sent"
            bar.at(done, 8)
    first, second, blank, end = terminal.getvalue().split("\r")[1:]
    assert first == "dead letters: 2 of 8, 2 a second, 3 s left; 1 sent"
    assert second == "dead letters: 4 of 8, 3 a second, 1 s left; 2 sent"
    assert (blank, end) == (" " * len(first), "")


@pytest.mark.parametrize(("stream", "quiet"), [(io.StringIO(), False), (Terminal(), True)])
def test_it_is_silent_outside_a_terminal(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch, *, quiet: bool) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    moments = iter((0.0, 10.0))
    with ProgressBar(quiet=quiet, clock=lambda: next(moments)) as bar:
        bar.begin("events")
        bar.at(1, 2)
    assert stream.getvalue() == ""
