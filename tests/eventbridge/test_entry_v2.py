"""Entries for eventbridgev2: deterministic, and named by an id that AWS takes."""

from __future__ import annotations

import re

import botocore.session
import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.core.event import MAX_ID
from pushrail_stream.eventbridge.entry_v2 import deduplication_id, render
from tests.support.batches import batch_of, value
from tests.support.builders import destination, v2_bus_arn

TARGET = destination(type="EVENTBRIDGE_V2", bus=v2_bus_arn("acme"))
EVENT = batch_of(TARGET, [value(1)]).deliveries[0].event
MODEL = botocore.session.get_session().get_service_model("eventbridgev2")


@given(key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=MAX_ID))
def test_every_idempotency_key_gives_an_id_that_aws_takes(key: str) -> None:
    rules = MODEL.shape_for("EventDeduplicationId").metadata
    made = deduplication_id(key)
    assert rules["min"] <= len(made) <= len(made.encode("utf-16-le")) // 2 <= rules["max"]
    assert re.fullmatch(rules["pattern"], made)
    assert made == key or len(made) == 64


@pytest.mark.parametrize(("key", "length"), [("k" * 128, 128), ("k" * 129, 64), (" \t", 64), ("é" * 65, 64)])
def test_a_key_that_is_too_long_or_blank_is_hashed(key: str, length: int) -> None:
    assert len(deduplication_id(key)) == length


def test_the_same_event_gives_the_same_entry() -> None:
    one, other = (render(EVENT, TARGET) for _ in range(2))
    assert cbor2.dumps(one) == cbor2.dumps(other)
