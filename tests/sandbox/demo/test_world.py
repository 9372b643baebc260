"""The demo's surroundings: complete, apart from any real account, and gone afterwards."""

from __future__ import annotations

import os

import pytest

from pushrail_stream.kafka.topics import describe_topics, plan_topics
from pushrail_stream.sandbox.demo.customers import CUSTOMERS, OUR_KEYS
from pushrail_stream.sandbox.demo.world import open_world
from pushrail_stream.settings.source import load_settings


async def test_the_world_is_complete_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "a-real-account")
    monkeypatch.delenv("PUSHRAIL_CONFIG", raising=False)
    before = dict(os.environ)
    async with open_world() as world:
        assert "AWS_PROFILE" not in os.environ
        assert {os.environ[name] for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")} == {os.devnull}
        assert os.environ["AWS_ACCESS_KEY_ID"] == OUR_KEYS.access_key_id
        ids = {target.id for customer in CUSTOMERS for target in customer.targets}
        assert {identity for identity in ids if world.catalog.get(identity) is not None} == ids
        there = describe_topics(world.settings.kafka, plan_topics(world.settings))
        assert all(state is not None for state in there.values())
        assert load_settings(world.folder / "pushrail.yaml").topics == world.settings.topics
        folder = world.folder
    assert not folder.exists()
    assert dict(os.environ) == before
