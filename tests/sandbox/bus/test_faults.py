"""Fault plans are read from JSON, or refused by field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pushrail_stream.sandbox.bus.faults import (
    CallError,
    ExpireTokens,
    FieldError,
    Garbage,
    Hang,
    Latency,
    Match,
    Probability,
    RateAbove,
    ResetAfter,
    ResetBefore,
    Rule,
    Sequence,
    Times,
    rules_from_json,
    rules_to_json,
)
from tests.support.bus_clients import BUS, KEY, ROLE, THROTTLED

if TYPE_CHECKING:
    pass


def test_a_plan_survives_json() -> None:
    plan = [
        Rule(THROTTLED, Match(detail_contains=("a", "b"), event_type="x.*"), Probability(0.25), "named"),
        Rule(CallError(503, body="html"), Match(bus=BUS, access_key=KEY, role=ROLE, operation="AssumeRole"), Times(3)),
        Rule(Latency(1.5), when=Sequence(2, 4)),
        Rule(CallError(400, "ThrottlingException"), when=RateAbove(50.0, 10.0)),
        *(Rule(effect) for effect in (Hang(), ResetBefore(), ResetAfter(), Garbage("short"), ExpireTokens())),
    ]
    document = rules_to_json(plan)
    assert rules_from_json(document) == plan
    assert document["rules"][3]["when"] == {"ratePerSecond": 50.0, "burst": 10.0, "kind": "ratePerSecond"}


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ([], "rules: "),
        ({"rules": 1}, "rules: "),
        ({"rules": [{}]}, "rules.0.effect: "),
        ({"rules": [{"effect": {"kind": "explode"}}]}, "rules.0.effect: "),
        ({"rules": [{"effect": {"kind": "latency", "secs": -1}}]}, "rules.0.effect.latency.secs: "),
        ({"rules": [{"effect": {"kind": "latency", "secs": "1"}}]}, "rules.0.effect.latency.secs: "),
        ({"rules": [{"effect": {"kind": "callError", "status": 200}}]}, "rules.0.effect.callError.status: "),
        (
            {"rules": [{"effect": {"kind": "hang"}, "match": {"detail_contains": []}}]},
            "rules.0.match.detail_contains: ",
        ),
        ({"rules": [{"effect": {"kind": "hang"}, "match": {"operation": "X"}}]}, "rules.0.match.operation: "),
        (
            {"rules": [{"effect": {"kind": "hang"}, "when": {"kind": "sequence", "first": 3, "last": 2}}]},
            "rules.0.when.sequence: Value error, last must not be below first",
        ),
    ],
)
def test_a_wrong_plan_names_the_field(document: Any, field: str) -> None:
    with pytest.raises(FieldError) as error:
        rules_from_json(document)
    assert str(error.value).startswith(field)
