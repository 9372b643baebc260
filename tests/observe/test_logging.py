"""Logs: their form, their place, and the sampling of repeated lines."""

from __future__ import annotations

import io
import logging

import pytest

from pushrail_stream.observe.logging import forward_log, open_log
from tests.support.signals import Terminal, lines
from tests.support.stopped_time import StoppedTime


def test_a_librarys_repeated_lines_are_sampled(time: StoppedTime) -> None:
    stream = io.StringIO()
    library = logging.getLogger("a-library")
    forward_log("a-library", open_log("info", stream=stream))
    for _ in range(100):
        logging.getLogger("a-library.part").warning("no answer from %s", "collector")
    library.error("no answer from %s", "collector")
    time.now += 31
    logging.getLogger("a-library.part").warning("no answer from %s", "another")
    assert [(line["level"], line["message"], line.get("repeated")) for line in lines(stream)] == [
        ("warning", "no answer from collector", None),
        ("error", "no answer from collector", None),
        ("warning", "no answer from another", 99),
    ]


def test_a_terminal_gets_text_by_default() -> None:
    text, wanted = Terminal(), Terminal()
    open_log("info", stream=text).info("hello", who="people")
    open_log("info", stream=wanted, as_json=True).info("hello", who="machines")
    assert "hello" in text.getvalue()
    assert not text.getvalue().startswith("{")
    assert lines(wanted) == [{"level": "info", "event": "hello", "who": "machines"}]


def test_the_log_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    open_log("warning").warning("hello")
    open_log("warning").info("not this")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "hello" in captured.err
