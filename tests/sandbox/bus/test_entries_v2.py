"""The checks of eventbridgev2's PutEvents of the whole call. Those of each entry are the classic ones."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest

from pushrail_stream.sandbox.bus.entries_v2 import read_entries_v2
from tests.support.builders import v2_bus_arn
from tests.support.bus_clients import entry_v2 as entry

BUS = v2_bus_arn("acme")


def test_the_entries_are_small_enough_together() -> None:
    half = entry(Detail='{"a":"' + "x" * 524_250 + '"}')
    body = {"EventBusArn": BUS, "Entries": [half, half]}
    bus, entries = read_entries_v2(cbor2.dumps(body))
    assert (bus, len(entries)) == (BUS, 2)
    half["Source"] += "." * 10
    told = "Total size of the entries in the request is over the limit."
    assert read_entries_v2(cbor2.dumps(body)) == ("InvalidInputException", told)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"Source": ""}, "Entries.0.Source: String should have at least 1 character"),
        ({"Source": "s" * 257}, "Entries.0.Source: String should have at most 256 characters"),
        ({"DetailType": "t" * 129}, "Entries.0.DetailType: String should have at most 128 characters"),
        ({"Detail": 1}, "Entries.0.Detail: Input should be a valid string"),
        ({"Time": 1_780_000_000}, "Entries.0.Time: Value error, must be a timestamp"),
        ({"Resources": ["r"] * 101}, "Entries.0.Resources: List should have at most 100 items"),
        ({"Resources": ["r" * 2049]}, "Entries.0.Resources.0: String should have at most 2048 characters"),
        ({"SystemMetadata": {"DeduplicationId": "k" * 129}}, "DeduplicationId: String should have at most 128"),
        ({"SystemMetadata": {"DeduplicationId": " "}}, "DeduplicationId: String should match pattern"),
    ],
)
def test_an_entry_outside_the_model_fails_the_call(changes: dict[str, Any], problem: str) -> None:
    refused = read_entries_v2(cbor2.dumps({"EventBusArn": BUS, "Entries": [entry() | changes]}))
    assert refused[0] == "InvalidInputException"
    assert problem in str(refused[1])


@pytest.mark.parametrize("arn", [None, "x", BUS.replace("event-busv2", "event-bus"), BUS[:-1], 7])
def test_a_call_names_a_bus_of_its_kind(arn: Any) -> None:
    assert read_entries_v2(cbor2.dumps({"EventBusArn": arn, "Entries": [entry()]}))[0] == "InvalidInputException"


@pytest.mark.parametrize("body", [b"", b"\xff", b"\x9f" * 5000, b"{}"])
def test_a_body_is_cbor(body: bytes) -> None:
    assert read_entries_v2(body)[0] in {"SerializationException", "InvalidInputException"}
