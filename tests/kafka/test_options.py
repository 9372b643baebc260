"""Properties of the group's members."""

from __future__ import annotations

import pytest

from pushrail_stream.kafka.options import kafka_options
from pushrail_stream.settings import Settings


@pytest.mark.parametrize(("client_id", "instance"), [("pushrail-stream", "pod-7"), ("pushrail-stream-2", "pod-7-2")])
def test_a_static_member_keeps_its_name_and_each_of_several_has_its_own(client_id: str, instance: str) -> None:
    settings = Settings.model_validate({"kafka": {"group_instance_id": "pod-7"}})
    options = kafka_options(settings, client_id)
    for consumer in (options.events(), options.retries()):
        assert consumer.properties()["group.instance.id"] == instance


def test_membership_is_dynamic_unless_asked_for() -> None:
    assert "group.instance.id" not in kafka_options(Settings()).events().properties()
