"""The pipeline's policy comes from the settings, value by value."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from pushrail_stream.pipeline.policy import Policy
from pushrail_stream.settings.eventbridge import CLASSIC, V2, Flavour
from pushrail_stream.settings.model import Settings
from pushrail_stream.settings.policy import policy_of


def policy(**sections: Any) -> Policy:
    return policy_of(Settings.model_validate(sections))


def test_mib_become_bytes() -> None:
    made = policy(limits={"max_buffered_mib": 64})
    assert made.event_buffer.max_bytes + made.retry_buffer.max_bytes == 64 * 2**20


@pytest.mark.parametrize(("flavour", "entries"), [(CLASSIC, 10), (V2, 100)])
def test_a_call_has_as_many_entries_as_its_bus_takes(flavour: Flavour, entries: int) -> None:
    """Beside new buses, which take 100, a classic bus gets 10."""
    assert policy().lanes.call.within(flavour.limits).max_entries == entries
    assert policy(delivery={"max_entries": 4}).lanes.call.within(flavour.limits).max_entries == 4


def test_retries_get_a_quarter_of_the_buffer() -> None:
    made = policy(limits={"max_buffered_events": 1_000})
    assert (made.event_buffer.max_events, made.retry_buffer.max_events) == (750, 250)


def test_tiers_keep_their_order_and_delays() -> None:
    made = policy(topics={"retry": {"soon": 5, "later": 60, "last": 600}})
    assert [(tier.topic, tier.delay_secs) for tier in made.retry.tiers] == [("soon", 5), ("later", 60), ("last", 600)]


def test_unrouted_events_are_dead_letters_on_request() -> None:
    assert not policy().dead_letter_unrouted
    assert policy(delivery={"unrouted": "dlq"}).dead_letter_unrouted


def test_a_disabled_flood_guard_never_reacts() -> None:
    assert policy(flood_guard={"enabled": False}).flood.min_dead == sys.maxsize
    assert policy(flood_guard={"min_dead_letters": 7}).flood.min_dead == 7
