from __future__ import annotations

import io

from pushrail_stream.core.signals import KafkaTrouble, Signal
from pushrail_stream.observe.fan_out import FanOut
from pushrail_stream.observe.log_observer import LogObserver
from pushrail_stream.observe.logging import open_log
from tests.support.pipeline_world import Seen
from tests.support.signals import BrokenPipe, lines


def fail(signal: Signal) -> None:
    raise RuntimeError(f"cannot cope with {signal}")


def fail_too(signal: Signal) -> None:
    raise KeyError(type(signal).__name__)


def test_all_observers_see_every_signal_in_order() -> None:
    first, second = Seen(), Seen()
    observe = FanOut([first, second], open_log("info", stream=io.StringIO()))
    signals = [KafkaTrouble(str(n)) for n in range(3)]
    for signal in signals:
        observe(signal)
    assert first == second == signals


def test_what_one_raises_is_logged_once_and_hides_nothing_from_the_others() -> None:
    stream, seen = io.StringIO(), Seen()
    observe = FanOut([fail, fail_too, seen], open_log("info", stream=stream))
    for n in range(100):
        observe(KafkaTrouble(str(n)))
    assert len(seen) == 100
    assert [(line["event"], line["error"]) for line in lines(stream)] == [
        ("observer_failed", "RuntimeError(\"cannot cope with KafkaTrouble(problem='0')\")"),
        ("observer_failed", "KeyError('KafkaTrouble')"),
    ]


def test_a_log_that_cannot_be_written_stops_nothing() -> None:
    log, seen = open_log("info", stream=BrokenPipe()), Seen()
    observe = FanOut([LogObserver(log), fail, seen], log)
    observe(KafkaTrouble("down"))
    assert seen == [KafkaTrouble("down")]
