"""A glance never excludes an event of the customers that it looks for."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.core.event import Event, decode
from pushrail_stream.core.glance import Glance
from tests.support.builders import VENDOR, customer_id, event
from tests.support.records import record

_names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@given(st.lists(_names, min_size=1, max_size=4, unique=True), _names, st.booleans(), st.integers(0, 3))
def test_an_event_of_a_customer_is_never_excluded(names: list[str], other: str, as_ascii: bool, which: int) -> None:  # noqa: FBT001
    fields = json.loads(event()) | {"customerExternalId": [*names, other, other, other, other][which], "payload": other}
    value = json.dumps(fields | {"payload": {"note": other}}, ensure_ascii=as_ascii).encode()
    found = decode(value, (), VENDOR)
    assert isinstance(found, Event)
    if found.customer_external_id in names:
        assert not Glance(names).excludes(value)


def test_most_events_of_others_are_excluded() -> None:
    glance = Glance([customer_id("acme"), customer_id("other")])
    assert glance.excludes(record(1, "third").value)
    assert not glance.excludes(record(1, "acme").value)
    assert not glance.excludes(record(1, "other").value)


@pytest.mark.parametrize("customers", [[], ["a", "b", "c", "d", "e"]])
def test_no_or_too_many_customers_exclude_nothing(customers: list[str]) -> None:
    assert not Glance(customers).excludes(record(1, "third").value)


def test_a_value_with_an_escape_or_without_text_is_not_excluded() -> None:
    assert not Glance(["acme"]).excludes(b'{"customerExternalId": "ac\\u006de"}')
    assert not Glance(["acme"]).excludes(None)
