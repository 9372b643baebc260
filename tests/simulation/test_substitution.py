"""Objects of the real world that a story must not use."""

from __future__ import annotations

import time
from types import FunctionType
from typing import Any, cast

from pushrail_stream.eventbridge.kms import KmsKey
from tests.simulation.people.drawing import draw_plan
from tests.simulation.stage import opened


def default_clock() -> Any:
    return (cast("FunctionType", KmsKey.__init__).__kwdefaults__ or {})["clock"]


def test_a_default_argument_is_the_clock_of_the_story() -> None:
    real = default_clock()
    with opened(draw_plan(3, "calm").with_troubles([])) as world:
        world.prepare()
        assert default_clock()() == world.scheduler.now == time.monotonic()
    assert default_clock() is real is time.monotonic
