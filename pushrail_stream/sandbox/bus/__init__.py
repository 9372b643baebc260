"""The fault-injecting bus: EventBridge, STS and SQS answer as AWS does, and fail as a plan of faults says.

The room's rule: nothing here imports the application, so that an error in one does not hide in the other.
"""

from __future__ import annotations

from pushrail_stream.sandbox.bus.faults import (
    Always,
    CallError,
    EntryError,
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
from pushrail_stream.sandbox.bus.ledger import Arrival, Assumed, Call
from pushrail_stream.sandbox.bus.server import BusConfig, FaultBus, run_bus

__all__ = [
    "Always", "Arrival", "Assumed", "BusConfig", "Call", "CallError", "EntryError", "ExpireTokens", "FaultBus",
    "FieldError", "Garbage", "Hang", "Latency", "Match", "Probability", "RateAbove", "ResetAfter", "ResetBefore",
    "Rule", "Sequence", "Times", "rules_from_json", "rules_to_json", "run_bus",
]  # fmt: skip
