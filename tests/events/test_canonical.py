"""Producers: the builder accepts exactly the events that workers decode, and names the field of each fault."""

from __future__ import annotations

import json
import math
import re
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.core.event import Event, Undecodable, decode
from pushrail_stream.core.record import NOT_UTF8
from pushrail_stream.events import CanonicalEvent, InvalidEvent, Problem, problems
from tests.support.commands import start
from tests.support.samples import EXAMPLE, fields, json_bytes, json_values, texts

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def built(**changes: Any) -> CanonicalEvent:
    members: dict[str, Any] = {
        "event_type": "order.completed",
        "occurred_at": datetime(2026, 5, 26, 14, 21, 8, 493_000, UTC),
        "source": "billing-service",
        "customer_external_id": "acct_8K2zRq",
        "idempotency_key": "order_38a91f-completed",
        "payload": {"who": "Zoë"},
    }
    return CanonicalEvent(**members | changes)


def test_an_event_is_the_parts_of_a_record() -> None:
    event = built(correlation_id="req_1", metadata={"tier": "pro"}, vendor="acme", traceparent=TRACE)

    assert event.key == b"acct_8K2zRq"
    assert json.loads(event.value) == {
        "eventType": "order.completed",
        "occurredAt": "2026-05-26T14:21:08.493000+00:00",
        "source": "billing-service",
        "customerExternalId": "acct_8K2zRq",
        "idempotencyKey": "order_38a91f-completed",
        "payload": {"who": "Zoë"},
        "correlationId": "req_1",
        "metadata": {"tier": "pro"},
    }
    decoded = decode(event.value, tuple(event.headers), None)
    assert isinstance(decoded, Event)
    assert (decoded.vendor, decoded.traceparent) == ("acme", TRACE)
    assert decoded.occurred_at_ms == 1_779_805_268_493


def test_the_documents_show_an_event_that_can_be_built() -> None:
    operating = (Path(__file__).parents[2] / "deploy" / "OPERATING.md").read_text(encoding="utf-8")
    example = re.search(r"```python\n([^`]*from pushrail_stream\.events .*?)```", operating, re.DOTALL)
    assert example is not None
    names: dict[str, Any] = {}
    exec(example[1], names)  # noqa: S102 - our own document
    record = names["record"]
    assert isinstance(decode(record["value"], tuple(record["headers"]), "acme"), Event)


def test_the_workers_setting_names_the_vendor_of_an_event_without_one() -> None:
    assert built().headers == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"event_type": ""}, "eventType: has 0 characters, not 1 to 128"),
        ({"event_type": 7}, "eventType: is a JSON number, not a JSON string"),
        ({"source": "\ud800"}, "source: cannot be written as JSON: 'utf-8' codec can't encode character '\\ud800'"),
        ({"occurred_at": datetime(2026, 5, 26)}, "occurredAt: is not an RFC 3339 date-time with offset"),  # noqa: DTZ001
        ({"occurred_at": "yesterday"}, "occurredAt: is not an RFC 3339 date-time with offset: 'yesterday'"),
        ({"occurred_at": 1_779_805_268}, "occurredAt: is a JSON number, not a JSON string"),
        ({"payload": {"amount": math.nan}}, "payload: cannot be written as JSON: Out of range"),
        ({"payload": {"at": datetime.now(UTC)}}, "payload: cannot be written as JSON: Object of type datetime"),
        ({"payload": []}, "payload: is a JSON array, not a JSON object"),
        ({"metadata": "pro"}, "metadata: is a JSON string, not a JSON object"),
        ({"vendor": ""}, "pushrail-vendor: is empty"),
        ({"vendor": "\ud800"}, "pushrail-vendor: cannot be written in UTF-8: surrogates not allowed"),
    ],
)
def test_an_invalid_event_cannot_be_built(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidEvent) as raised:
        built(**changes)
    assert str(raised.value).startswith(problem)


def test_every_problem_is_told() -> None:
    with pytest.raises(InvalidEvent) as raised:
        built(event_type="x" * 129, idempotency_key="")
    assert raised.value.problems == (
        Problem("eventType", "has 129 characters, not 1 to 128"),
        Problem("idempotencyKey", "has 0 characters, not 1 to 256"),
    )


def test_a_payload_may_be_as_deep_as_workers_take_it() -> None:
    deep: dict[str, Any] = {}
    for _ in range(2_000):
        deep = {"a": deep}
    with pytest.raises(
        InvalidEvent, match=r"payload: cannot be written as JSON: nested too deeply|value: is nested more than 1000"
    ):
        built(payload=deep)


@given(
    st.fixed_dictionaries(
        {
            "event_type": st.text(max_size=130),
            "occurred_at": st.datetimes(timezones=st.just(UTC) | st.just(timezone(timedelta(hours=-5)))),
            "source": texts,
            "customer_external_id": st.text(max_size=258),
            "idempotency_key": texts,
            "payload": st.dictionaries(texts, json_values, max_size=3),
        },
        optional={"correlation_id": texts, "vendor": st.text(), "traceparent": texts},
    )
)
def test_workers_decode_every_event_that_can_be_built(members: dict[str, Any]) -> None:
    try:
        event = CanonicalEvent(**members)
    except InvalidEvent:
        return
    decoded = decode(event.value, tuple(event.headers), "acme")
    assert isinstance(decoded, Event)
    assert decoded.customer_external_id.encode() == event.key
    assert json.loads(decoded.value)["payload"] == members["payload"]


def test_a_value_is_checked_as_workers_do() -> None:
    assert problems(EXAMPLE) == []
    assert problems(None) == [Problem("value", "is null, not a JSON object")]
    assert problems(b"{") == [decode(b"{", (), "acme")]
    assert [problem.field for problem in problems(b"{}")][:2] == ["eventType", "occurredAt"]
    assert problems(json_bytes(fields()), ((NOT_UTF8, b""),))[0].field == "headers"
    assert Problem is Undecodable


def test_a_producer_imports_no_client_and_no_framework() -> None:
    script = "import sys; before = set(sys.modules); import pushrail_stream.events; print(*set(sys.modules) - before)"
    done = start([sys.executable, "-c", script])
    roots = {name.partition(".")[0] for name in done.stdout.split()}
    assert roots - set(sys.stdlib_module_names) == {"orjson", "pushrail_stream"}
