"""The command `check`: its options."""

from __future__ import annotations

from pathlib import Path

import pytest

from pushrail_stream.operations.times import MOMENT_FORMS
from tests.support.replay_world import world

pytestmark = pytest.mark.kafka


async def test_wrong_times_are_named(real_kafka: str, tmp_path: Path) -> None:
    async with world(real_kafka, tmp_path) as (_, _, desk):
        assert "--until: must be later than --since" in await desk.run(
            "check", "--since", "1h", "--until", "2h", exit_code=2
        )
        error = await desk.run("check", "--since", "soon", exit_code=2)
        assert f"must be {MOMENT_FORMS}, in UTC" in error
