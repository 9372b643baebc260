"""The demo's surroundings: complete, apart from any real account, and gone afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
from pathlib import Path

import pytest

from pushrail_stream.kafka.topics import describe_topics, plan_topics
from pushrail_stream.sandbox.demo.customers import CUSTOMERS, OUR_KEYS
from pushrail_stream.sandbox.demo.world import addresses, open_world
from pushrail_stream.settings.source import load_settings


async def test_the_world_is_complete_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "a-real-account")
    monkeypatch.delenv("PUSHRAIL_CONFIG", raising=False)
    before = dict(os.environ)
    async with open_world() as world:
        assert "AWS_PROFILE" not in os.environ
        assert os.environ["AWS_ACCESS_KEY_ID"] == OUR_KEYS.access_key_id
        ids = {target.id for customer in CUSTOMERS for target in customer.targets}
        assert {identity for identity in ids if world.catalog.get(identity) is not None} == ids
        there = describe_topics(world.settings.kafka, plan_topics(world.settings))
        assert all(state is not None for state in there.values())
        assert load_settings(world.folder / "pushrail.yaml").topics == world.settings.topics
        folder = world.folder
    assert not folder.exists()
    assert dict(os.environ) == before


async def test_the_shown_commands_name_what_runs() -> None:
    async with open_world() as world:
        shown = addresses(world)
        assert shown["kafka"] in shown["produce_kcat"]
        assert shown["config"] == shlex.split(shown["run"])[-1]
        assert shown["aws"] in shown["receive"]
        plan = shlex.split(shown["break"])[-1]
        assert json.loads(plan)["rules"][0]["effect"]["status"] == 503
        example = await asyncio.to_thread(Path(shlex.split(shown["produce_kcat"])[-1]).read_bytes)
        assert json.loads(example)["eventType"]
